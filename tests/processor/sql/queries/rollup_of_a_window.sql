CREATE TABLE o WITH ('connector' = 'penstock') AS
SELECT symbol, size, GROUPING_ID(symbol, size) AS g, window_start, COUNT(*) AS n, SUM(price) AS total
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR))
GROUP BY window_start, window_end, ROLLUP (symbol, size);
