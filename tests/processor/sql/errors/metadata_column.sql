-- expect: 2:23 syntax
CREATE TABLE o (a INT METADATA) WITH ('connector' = 'penstock');
