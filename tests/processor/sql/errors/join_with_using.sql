-- expect: 3:25 unknown_column
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT t.price FROM trades AS t
JOIN quotes AS q USING (market);
