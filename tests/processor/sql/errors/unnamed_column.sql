-- expect: 2:66 unnamed_column
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol, price + 1 FROM trades;
