-- expect: 2:58 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT SUM(price) OVER (PARTITION BY symbol) AS x FROM trades;
