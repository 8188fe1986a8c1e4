-- expect: 3:86 type_mismatch
CREATE TABLE given (id STRING, tags ARRAY<STRING>) WITH ('connector' = 'penstock');
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT id, x FROM given CROSS JOIN UNNEST(id) AS t(x);
