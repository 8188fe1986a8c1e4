-- expect: 4:10 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol, COUNT(*) AS n
FROM TABLE(SESSION(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR))
GROUP BY window_start, window_end, ROLLUP (symbol);
