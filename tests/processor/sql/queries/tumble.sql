CREATE TABLE per_minute (symbol STRING, minute_start TIMESTAMP(3), trades BIGINT, volume BIGINT,
  PRIMARY KEY (symbol, minute_start) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO per_minute SELECT symbol, window_start, COUNT(*), SUM(volume)
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY symbol, window_start, window_end;
