-- expect: 2:83 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades WHERE SUM(price) OVER (ORDER BY ts) > 3;
