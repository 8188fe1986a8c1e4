CREATE TABLE matched WITH ('connector' = 'penstock') AS
SELECT t.symbol, t.ts FROM trades t, quotes q
WHERE t.symbol = q.symbol AND t.ts >= q.at_time AND t.ts < q.at_time + INTERVAL '1' MINUTE;
