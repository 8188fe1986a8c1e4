CREATE TABLE counted WITH ('connector' = 'penstock') AS SELECT symbol, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end
HAVING symbol <> 'X' AND COUNT(*) > 1;
