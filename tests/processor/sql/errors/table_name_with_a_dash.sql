-- expect: 2:14 bad_name
CREATE TABLE `a-b` (a INT) WITH ('connector' = 'penstock');
