-- expect: 3:17 type_mismatch
CREATE TABLE o (ts STRING,
  WATERMARK FOR ts AS ts) WITH ('connector' = 'penstock');
