-- expect: 3:7 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR))
WHERE window_start IS NOT NULL GROUP BY symbol, window_start, window_end;
