-- expect: 2:58 argument_count
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(size, price) AS n FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
