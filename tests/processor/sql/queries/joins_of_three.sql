-- From the left: one with bounds in time, one without; terms of WHERE go to the join that has their columns.
SET 'table.exec.state.ttl' = '1 h';
CREATE TABLE matched WITH ('connector' = 'penstock') AS
SELECT t.symbol, q.bid, s.number FROM trades AS t
JOIN quotes AS q ON q.at_time BETWEEN t.ts - INTERVAL '1' MINUTE AND t.ts
JOIN settings AS s ON s.name = t.symbol
WHERE t.symbol = q.symbol AND s.number > t.size AND q.bid > 1;
