-- expect: 3:6 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT t.price FROM trades AS t
JOIN quotes AS q USING (symbol);
