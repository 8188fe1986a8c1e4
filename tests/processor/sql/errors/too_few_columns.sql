-- expect: 3:13 column_count
CREATE TABLE o (a STRING, b STRING) WITH ('connector' = 'penstock');
INSERT INTO o SELECT symbol FROM trades;
