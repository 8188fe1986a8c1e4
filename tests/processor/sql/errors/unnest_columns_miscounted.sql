-- expect: 3:86 column_count
CREATE TABLE given (id STRING, tags ARRAY<STRING>) WITH ('connector' = 'penstock');
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT id, x FROM given CROSS JOIN UNNEST(tags) AS t(x, y);
