-- expect: 4:1 cycle | 5:1 cycle
CREATE TABLE a (s STRING) WITH ('connector' = 'penstock');
CREATE TABLE b (s STRING) WITH ('connector' = 'penstock');
INSERT INTO a SELECT s FROM b;
INSERT INTO b SELECT s FROM a;
CREATE TABLE c WITH ('connector' = 'penstock') AS SELECT s FROM a;
