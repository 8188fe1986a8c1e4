-- expect: 2:58 unknown_column | 3:70 unknown_table
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT nope FROM trades;
CREATE TABLE p WITH ('connector' = 'penstock') AS SELECT symbol FROM trads;
