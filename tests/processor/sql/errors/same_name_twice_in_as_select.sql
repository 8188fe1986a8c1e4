-- expect: 2:66 name_taken
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol, symbol AS Symbol FROM trades;
