CREATE TABLE hourly (symbol STRING, window_start TIMESTAMP(3), n BIGINT,
  PRIMARY KEY (symbol, window_start) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO hourly SELECT symbol, window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
CREATE TABLE busy WITH ('connector' = 'penstock') AS SELECT * FROM hourly WHERE n > 1000;
