-- expect: 2:137 unbounded_state
CREATE TABLE o (symbol STRING, s TIMESTAMP(3), n BIGINT, PRIMARY KEY (symbol, s) NOT ENFORCED) WITH ('connector' = 'penstock', 'late' = 'update'); INSERT INTO o SELECT symbol, window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
