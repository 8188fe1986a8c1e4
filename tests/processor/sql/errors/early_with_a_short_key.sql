-- expect: 4:13 early_key
CREATE TABLE o (symbol STRING, day_start TIMESTAMP(3), n BIGINT, PRIMARY KEY (symbol) NOT ENFORCED)
WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO o SELECT symbol, window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
