-- expect: 2:85 duplicate_clause
CREATE TABLE o (a TIMESTAMP(3), b TIMESTAMP(3), WATERMARK FOR a AS a, WATERMARK FOR b AS b) WITH ('connector' = 'penstock');
