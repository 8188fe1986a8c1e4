-- expect: 2:104 no_event_time
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT SUM(price) OVER (PARTITION BY symbol ORDER BY price) AS x FROM trades;
