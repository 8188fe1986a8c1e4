-- expect: 3:23 type_mismatch
CREATE TABLE o (ts TIMESTAMP(3), n INT,
  WATERMARK FOR ts AS n) WITH ('connector' = 'penstock');
