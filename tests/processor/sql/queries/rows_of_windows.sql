CREATE TABLE placed WITH ('connector' = 'penstock') AS
SELECT symbol, price, window_start, window_end FROM TABLE(HOP(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE))
WHERE price > 10 AND window_start >= TIMESTAMP '2018-01-01 00:00:00';
CREATE TABLE visits WITH ('connector' = 'penstock') AS
SELECT symbol, price, window_start, window_time FROM TABLE(SESSION(TABLE trades PARTITION BY symbol, DESCRIPTOR(ts), INTERVAL '5' MINUTE))
WHERE symbol <> 'x' AND price > 10;
