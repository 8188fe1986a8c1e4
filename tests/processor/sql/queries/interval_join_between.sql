CREATE TABLE matched WITH ('connector' = 'penstock') AS
SELECT t.symbol, t.price, q.ask, t.ts FROM trades AS t JOIN quotes AS q
ON t.symbol = q.symbol AND t.ts BETWEEN q.at_time - INTERVAL '10' SECOND AND q.at_time + INTERVAL '1' MINUTE
WHERE t.size > 10 AND q.ask < 5 AND t.price > q.ask;
