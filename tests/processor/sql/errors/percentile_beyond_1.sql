-- expect: 2:58 out_of_range
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT PERCENTILE(size, 1.5) AS n FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
