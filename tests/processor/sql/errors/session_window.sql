-- expect: 2:83 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(*) AS n FROM TABLE(SESSION(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
