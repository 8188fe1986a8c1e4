-- expect: 3:96 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(*) AS n
FROM TABLE(SESSION(TABLE trades PARTITION BY symbol, DESCRIPTOR(ts), INTERVAL '1' HOUR)) WHERE price > 1 GROUP BY symbol, window_start, window_end;
