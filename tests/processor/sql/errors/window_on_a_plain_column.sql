-- expect: 3:46 no_event_time
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE settings, DESCRIPTOR(number), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
