CREATE TABLE moving WITH ('connector' = 'penstock') AS
SELECT symbol, price, AVG(price) OVER w AS mean, COUNT(*) OVER w AS n FROM trades WHERE price > 0
WINDOW w AS (PARTITION BY UPPER(symbol) ORDER BY ts RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW);
CREATE TABLE steps WITH ('connector' = 'penstock') AS
SELECT symbol, price - LAG(price, 1, price) OVER (PARTITION BY symbol ORDER BY ts) AS step,
  ROW_NUMBER() OVER (PARTITION BY symbol ORDER BY ts) AS nth FROM trades;
