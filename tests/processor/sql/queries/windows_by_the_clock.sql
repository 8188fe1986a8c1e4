CREATE TABLE clicks (page STRING, place STRING, p AS PROCTIME()) WITH ('connector' = 'penstock');
CREATE VIEW shop AS SELECT page, p FROM clicks WHERE page LIKE '/shop%';
CREATE TABLE busy WITH ('connector' = 'penstock') AS
SELECT page, window_end, COUNT(*) AS n
FROM TABLE(HOP(TABLE shop, DESCRIPTOR(p), INTERVAL '10' SECOND, INTERVAL '1' MINUTE))
GROUP BY page, window_start, window_end HAVING COUNT(*) > 100;
