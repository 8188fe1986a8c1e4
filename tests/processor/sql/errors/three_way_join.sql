-- expect: 4:6 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT t.symbol FROM trades AS t
JOIN quotes AS q ON t.symbol = q.symbol
JOIN settings AS s ON t.symbol = s.name;
