-- expect: 4:3 type_mismatch
CREATE TABLE o (a STRING, b BIGINT) WITH ('connector' = 'penstock');
INSERT INTO o SELECT symbol,
  price FROM trades;
