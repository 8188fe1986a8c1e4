-- expect: 4:42 no_event_time
CREATE TABLE copy WITH ('connector' = 'penstock') AS SELECT symbol, ts FROM trades;
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE copy, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
