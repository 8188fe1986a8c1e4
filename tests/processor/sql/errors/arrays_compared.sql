-- expect: 3:78 type_mismatch
CREATE TABLE given (id STRING, tags ARRAY<STRING>) WITH ('connector' = 'penstock');
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT id FROM given WHERE tags = ARRAY['a'];
