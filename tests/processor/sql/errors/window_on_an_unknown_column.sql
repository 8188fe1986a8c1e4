-- expect: 3:44 unknown_column
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(tz), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
