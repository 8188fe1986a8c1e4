-- expect: 2:34 syntax
CREATE TABLE o (a INT, b MULTISET<INT>) WITH ('connector' = 'penstock');
