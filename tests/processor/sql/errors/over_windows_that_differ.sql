-- expect: 2:94 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT SUM(price) OVER (ORDER BY ts) AS x, COUNT(*) OVER (PARTITION BY symbol ORDER BY ts) AS y FROM trades;
