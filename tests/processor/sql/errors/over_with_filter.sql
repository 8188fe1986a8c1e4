-- expect: 2:58 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT SUM(price) FILTER (WHERE price > 0) OVER (ORDER BY ts) AS x FROM trades;
