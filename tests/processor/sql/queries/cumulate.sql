CREATE TABLE so_far WITH ('connector' = 'penstock') AS
SELECT symbol, window_start, window_end, SUM(price) AS total
FROM TABLE(CUMULATE(TABLE trades, DESCRIPTOR(ts), INTERVAL '10' MINUTE, INTERVAL '1' DAY, INTERVAL '6' HOUR)) GROUP BY symbol, window_start, window_end;
