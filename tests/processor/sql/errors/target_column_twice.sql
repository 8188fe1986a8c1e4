-- expect: 3:19 name_taken
CREATE TABLE o (a STRING, b STRING) WITH ('connector' = 'penstock');
INSERT INTO o (a, a) SELECT symbol, note FROM trades;
