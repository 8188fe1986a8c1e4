CREATE TABLE shares WITH ('connector' = 'penstock') AS
SELECT UPPER(symbol) AS s, COUNT(*) FILTER (WHERE ok) * 100 / COUNT(*) AS share_ok, MAX(price) - MIN(price) AS spread, window_time
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) AS w WHERE w.price > 0
GROUP BY UPPER(symbol), window_start, window_end, window_time
HAVING COUNT(*) > 5 AND MAX(price) > 2 * MIN(price);
