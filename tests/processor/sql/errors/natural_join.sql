-- expect: 2:89 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT price FROM trades NATURAL JOIN quotes;
