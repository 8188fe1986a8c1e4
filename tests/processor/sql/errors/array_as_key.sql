-- expect: 3:14 type_mismatch
CREATE TABLE given (id STRING, tags ARRAY<STRING>, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'penstock');
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT tags, window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE given, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY tags, window_start, window_end;
