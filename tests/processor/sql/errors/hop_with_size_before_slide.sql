-- expect: 3:65 bad_window
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(*) AS n
FROM TABLE(HOP(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '10' MINUTE)) GROUP BY window_start, window_end;
