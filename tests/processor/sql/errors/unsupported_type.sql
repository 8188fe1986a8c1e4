-- expect: 2:31 syntax
CREATE TABLE o (a INT, b ARRAY<INT>) WITH ('connector' = 'penstock');
