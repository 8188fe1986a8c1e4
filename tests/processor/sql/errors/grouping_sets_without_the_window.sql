-- expect: 3:94 unbounded_state
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY GROUPING SETS ((window_start, window_end, symbol), (symbol));
