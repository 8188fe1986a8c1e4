-- expect: 3:90 open_string
-- alone
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades WHERE note = 'x;
