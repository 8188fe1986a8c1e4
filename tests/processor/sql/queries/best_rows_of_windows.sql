CREATE TABLE best WITH ('connector' = 'penstock') AS
SELECT symbol, price, window_start, place FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY price DESC NULLS LAST, symbol) AS place
  FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) WHERE place <= 3;
CREATE TABLE last_ones WITH ('connector' = 'penstock') AS
SELECT symbol, price, e FROM (
  SELECT symbol, price, e, ROW_NUMBER() OVER (PARTITION BY s, e, symbol ORDER BY ts DESC) AS rn
  FROM (SELECT symbol, price, ts, window_start AS s, window_end AS e
    FROM TABLE(SESSION(TABLE trades PARTITION BY symbol, DESCRIPTOR(ts), INTERVAL '5' MINUTE)))) WHERE rn = 1;
