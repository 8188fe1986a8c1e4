-- expect: 2:120 type_mismatch
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(*) AS n FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MONTH)) GROUP BY window_start, window_end;
