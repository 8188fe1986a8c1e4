-- expect: 4:14 name_taken | 4:14 unknown_table
CREATE TABLE Trades WITH ('connector' = 'penstock') AS SELECT symbol FROM quotes;
