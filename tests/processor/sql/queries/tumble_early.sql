CREATE TABLE per_day (symbol STRING, day_start TIMESTAMP(3), trades BIGINT,
  PRIMARY KEY (symbol, day_start) NOT ENFORCED) WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO per_day SELECT symbol, window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY symbol, window_start, window_end;
