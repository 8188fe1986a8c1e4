-- expect: 2:58 type_mismatch
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT SUM(price) OVER (ORDER BY ts RANGE BETWEEN 3 PRECEDING AND CURRENT ROW) AS x FROM trades;
