-- expect: 2:58 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT SUM(price) OVER (PARTITION BY symbol ORDER BY ts DESC) AS x FROM trades;
