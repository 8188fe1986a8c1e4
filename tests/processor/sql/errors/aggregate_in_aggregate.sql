-- expect: 2:62 misplaced_aggregate
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT MAX(COUNT(*)) AS n FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
