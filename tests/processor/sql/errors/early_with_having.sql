-- expect: 4:13 early_having
CREATE TABLE o (symbol STRING, t TIMESTAMP(3), PRIMARY KEY (symbol, t) NOT ENFORCED)
WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO o SELECT symbol, window_start FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end HAVING AVG(price) > 5;
