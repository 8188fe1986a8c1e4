-- expect: 2:58 unsupported_type
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT NULL AS a FROM trades;
