-- expect: 2:57 late_needs_key
CREATE TABLE o WITH ('connector' = 'penstock', 'late' = 'update', 'lateness' = '1 h') AS SELECT symbol, window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
