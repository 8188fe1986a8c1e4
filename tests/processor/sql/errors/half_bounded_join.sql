-- expect: 3:6 unbounded_state
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT t.symbol FROM trades AS t
JOIN quotes AS q ON t.symbol = q.symbol AND t.ts >= q.at_time;
