-- expect: 4:6 ambiguous_relation
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT t.symbol FROM trades AS t
JOIN quotes AS q ON t.symbol = q.symbol
JOIN settings AS t ON t.symbol = q.name;
