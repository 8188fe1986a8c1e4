-- expect: 2:58 out_of_range
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT LAG(price, 0) OVER (ORDER BY ts) AS x FROM trades;
