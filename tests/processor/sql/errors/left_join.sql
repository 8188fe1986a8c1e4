-- expect: 3:11 unbounded_state
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT t.symbol FROM trades AS t
LEFT JOIN quotes AS q ON t.symbol = q.symbol;
