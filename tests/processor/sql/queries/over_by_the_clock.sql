CREATE TABLE clicks (page STRING, n INT, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts) WITH ('connector' = 'penstock');
CREATE TABLE counted WITH ('connector' = 'penstock') AS
SELECT page, n, ts, SUM(n) OVER (PARTITION BY page ORDER BY p ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS last3
FROM clicks WHERE n > 0;
