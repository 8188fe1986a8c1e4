-- expect: 3:6 no_versions
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT t.price FROM trades AS t
JOIN quotes FOR SYSTEM_TIME AS OF t.ts AS q ON t.symbol = q.symbol;
