-- expect: 3:1 unsupported
CREATE TABLE o (a INT) WITH ('connector' = 'penstock');
INSERT OVERWRITE o SELECT size FROM trades;
