-- expect: 4:53 no_event_time
CREATE TABLE calls (id STRING, p AS PROCTIME(), ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'penstock');
CREATE TABLE o WITH ('connector' = 'penstock') AS
SELECT * FROM TABLE(SESSION(TABLE calls, DESCRIPTOR(p), INTERVAL '1' HOUR));
