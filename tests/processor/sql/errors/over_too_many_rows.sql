-- expect: 2:58 bad_window
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT SUM(price) OVER (ORDER BY ts ROWS BETWEEN 10001 PRECEDING AND CURRENT ROW) AS x FROM trades;
