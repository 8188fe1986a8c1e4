CREATE TABLE pairs WITH ('connector' = 'penstock') AS
SELECT a.id AS first_id, b.id AS second_id FROM trades AS a JOIN trades AS b
ON a.symbol = b.symbol AND a.size = b.volume AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '5' SECOND AND a.id <> b.id;
