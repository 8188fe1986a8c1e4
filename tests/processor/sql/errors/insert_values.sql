-- expect: 3:23 unsupported
CREATE TABLE o (a INT) WITH ('connector' = 'penstock');
INSERT INTO o VALUES (1);
