CREATE TABLE matched WITH ('connector' = 'penstock') AS
SELECT t.symbol, q.at_time FROM trades AS t INNER JOIN quotes AS q
ON q.symbol = t.symbol AND q.at_time > t.ts AND q.at_time + INTERVAL '1' SECOND <= t.ts + INTERVAL '1' HOUR;
