-- expect: 3:17 unknown_column
CREATE TABLE o (ts TIMESTAMP(3),
  WATERMARK FOR tz AS tz - INTERVAL '1' SECOND) WITH ('connector' = 'penstock');
