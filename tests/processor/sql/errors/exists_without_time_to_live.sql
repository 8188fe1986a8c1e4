-- expect: 3:7 unbounded_state
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades AS t
WHERE EXISTS (SELECT * FROM quotes AS q WHERE q.symbol = t.symbol);
