-- expect: 3:1 cycle
CREATE TABLE a (s STRING) WITH ('connector' = 'penstock');
INSERT INTO a SELECT s FROM a;
