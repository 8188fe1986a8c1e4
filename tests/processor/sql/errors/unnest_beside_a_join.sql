-- expect: 3:84 unsupported
CREATE TABLE given (id STRING, tags ARRAY<STRING>) WITH ('connector' = 'penstock');
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT g.id FROM given AS g JOIN given AS h ON g.id = h.id CROSS JOIN UNNEST(g.tags) AS t(x);
