-- expect: 3:16 not_null
CREATE TABLE o (a STRING, b INT, PRIMARY KEY (a) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO o (b) SELECT size FROM trades;
