-- expect: 2:120 bad_window
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(*) AS n FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '0' HOUR)) GROUP BY window_start, window_end;
