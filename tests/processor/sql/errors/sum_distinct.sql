-- expect: 2:58 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT SUM(DISTINCT size) AS n FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
