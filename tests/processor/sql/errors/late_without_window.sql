-- expect: 3:13 late_without_window
CREATE TABLE o (symbol STRING, s TIMESTAMP(3), n BIGINT, PRIMARY KEY (symbol, s) NOT ENFORCED) WITH ('connector' = 'penstock', 'late' = 'update', 'lateness' = '1 h');
INSERT INTO o SELECT symbol, ts, CAST(1 AS BIGINT) FROM trades;
