CREATE TABLE carts (id STRING, tags ARRAY<STRING>, items ARRAY<ROW<sku STRING, n INT>>, other STRING) WITH ('connector' = 'penstock');
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT id, tag FROM carts CROSS JOIN UNNEST(tags) AS t(tag) WHERE id <> '' AND tag <> '';
INSERT INTO o SELECT c.id, i.sku FROM carts AS c LEFT JOIN UNNEST(c.items) WITH ORDINALITY AS i(sku, n, place) ON TRUE;
