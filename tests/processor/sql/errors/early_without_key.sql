-- expect: 3:42 early_needs_key
CREATE TABLE o (symbol STRING, n BIGINT)
WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO o SELECT symbol, COUNT(*) FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
