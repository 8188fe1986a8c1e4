-- expect: 2:83 syntax
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(*) AS n FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts))) GROUP BY window_start, window_end;
