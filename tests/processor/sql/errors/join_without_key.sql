-- expect: 3:6 no_join_key
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT t.symbol FROM trades AS t
JOIN quotes AS q ON t.ts BETWEEN q.at_time AND q.at_time + INTERVAL '1' HOUR;
