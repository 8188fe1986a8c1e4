-- expect: 2:40 bad_key
CREATE TABLE o (a DOUBLE, PRIMARY KEY (a) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO o SELECT price FROM trades;
