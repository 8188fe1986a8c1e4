-- expect: 3:6 never_true
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT t.symbol FROM trades AS t
JOIN quotes AS q ON t.symbol = q.symbol AND t.ts BETWEEN q.at_time + INTERVAL '1' HOUR AND q.at_time;
