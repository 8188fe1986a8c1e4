CREATE TABLE active WITH ('connector' = 'penstock') AS SELECT symbol, window_start
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
