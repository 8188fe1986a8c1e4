-- expect: 2:58 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT SUM(COUNT(*)) OVER (ORDER BY window_time) AS x FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end, window_time;
