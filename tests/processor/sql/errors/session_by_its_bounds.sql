-- expect: 2:58 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT MAX(window_end) AS n
FROM TABLE(SESSION(TABLE trades PARTITION BY symbol, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
