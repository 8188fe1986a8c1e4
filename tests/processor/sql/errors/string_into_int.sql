-- expect: 3:22 type_mismatch
CREATE TABLE o (a INT) WITH ('connector' = 'penstock');
INSERT INTO o SELECT symbol FROM trades;
