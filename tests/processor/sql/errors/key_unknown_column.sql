-- expect: 2:37 unknown_column
CREATE TABLE o (a INT, PRIMARY KEY (b) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO o SELECT size FROM trades;
