-- expect: 3:16 unknown_column
CREATE TABLE o (a STRING) WITH ('connector' = 'penstock');
INSERT INTO o (b) SELECT symbol FROM trades;
