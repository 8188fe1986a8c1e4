-- A full join: conditions over one side stay in the join, those of WHERE above it.
CREATE TABLE o WITH ('connector' = 'penstock') AS
SELECT t.symbol, q.bid, q.at_time FROM trades AS t FULL JOIN quotes AS q
ON t.symbol = q.symbol AND q.at_time BETWEEN t.ts - INTERVAL '1' MINUTE AND t.ts AND t.price > 1
WHERE t.size > 2;
