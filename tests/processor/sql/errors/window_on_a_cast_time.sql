-- expect: 5:39 no_event_time
CREATE VIEW v AS SELECT CAST(ts AS TIMESTAMP(3)) AS ts FROM trades WHERE ts > ts;
CREATE VIEW w AS SELECT FLOOR(ts TO DAY) AS ts FROM trades;
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE w, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
