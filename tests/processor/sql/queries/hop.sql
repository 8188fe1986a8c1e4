CREATE TABLE moving WITH ('connector' = 'penstock') AS
SELECT symbol, window_start, window_end, AVG(price) AS mean
FROM TABLE(HOP(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '10' MINUTE)) GROUP BY symbol, window_start, window_end;
