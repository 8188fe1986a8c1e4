-- expect: 3:12 syntax
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(*) AS n
FROM TABLE(SESSION(TABLE trades PARTITION BY symbol, DESCRIPTOR(ts))) GROUP BY symbol, window_start, window_end;
