-- expect: 3:13 unsupported
CREATE TABLE o (symbol STRING, s TIMESTAMP(3), n BIGINT, PRIMARY KEY (symbol, s) NOT ENFORCED) WITH ('connector' = 'penstock', 'late' = 'update', 'lateness' = '1 h');
INSERT INTO o SELECT symbol, window_start, COUNT(*) FROM TABLE(SESSION(TABLE trades PARTITION BY symbol, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
