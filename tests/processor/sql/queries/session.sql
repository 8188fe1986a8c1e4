CREATE TABLE visits WITH ('connector' = 'penstock') AS
SELECT symbol, ok, window_start, window_end, SUM(price) AS total
FROM TABLE(SESSION(TABLE trades PARTITION BY symbol, DESCRIPTOR(ts), INTERVAL '10' MINUTE)) WHERE price > 1
GROUP BY symbol, ok, window_start, window_end HAVING symbol <> 'x' AND ok AND SUM(price) > 10;
