-- expect: 2:58 bad_window
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT SUM(price) OVER (ORDER BY ts ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS x FROM trades;
