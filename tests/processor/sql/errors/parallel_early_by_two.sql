-- expect: 5:1 parallel_early
SET 'parallelism.default' = '2';
CREATE TABLE o (symbol STRING, at_time TIMESTAMP(3), n BIGINT, PRIMARY KEY (symbol, at_time) NOT ENFORCED)
WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO o SELECT symbol, window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY symbol, window_start, window_end;
INSERT INTO o SELECT note, window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY note, window_start, window_end;
