-- expect: 2:58 not_grouped
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT GROUPING(size) AS g, symbol, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end, ROLLUP (symbol);
