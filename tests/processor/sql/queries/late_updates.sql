CREATE TABLE per_minute (symbol STRING, s TIMESTAMP(3), n BIGINT, PRIMARY KEY (symbol, s) NOT ENFORCED)
WITH ('connector' = 'penstock', 'late' = 'update', 'lateness' = '1 h');
INSERT INTO per_minute SELECT symbol, window_start, COUNT(*)
FROM TABLE(HOP(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)) GROUP BY symbol, window_start, window_end;
