-- expect: 2:138 bad_window
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(*) AS n FROM TABLE(HOP(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '1' DAY)) GROUP BY window_start, window_end;
