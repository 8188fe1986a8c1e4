-- expect: 2:141 bad_option
CREATE TABLE o (symbol STRING, s TIMESTAMP(3), n BIGINT, PRIMARY KEY (symbol, s) NOT ENFORCED) WITH ('connector' = 'penstock', 'lateness' = '1 h'); INSERT INTO o SELECT symbol, window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
