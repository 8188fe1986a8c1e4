-- expect: 3:7 misplaced_aggregate
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR))
WHERE COUNT(*) > 1 GROUP BY symbol, window_start, window_end;
