-- expect: 3:13 early_session
CREATE TABLE o (symbol STRING, s TIMESTAMP(3), n BIGINT, PRIMARY KEY (symbol, s) NOT ENFORCED) WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO o SELECT symbol, window_start, COUNT(*)
FROM TABLE(SESSION(TABLE trades PARTITION BY symbol, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
