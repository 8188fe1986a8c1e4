-- expect: 2:58 unknown_function
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT TUMBLE_START(ts, INTERVAL '1' HOUR) AS h FROM trades;
