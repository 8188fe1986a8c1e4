CREATE TABLE good (symbol STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
WITH ('connector' = 'penstock', 'publish' = 'false', 'store' = 'false');
INSERT INTO good SELECT symbol, ts FROM trades WHERE ok;
CREATE TABLE counts WITH ('connector' = 'penstock') AS SELECT symbol, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE good, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
