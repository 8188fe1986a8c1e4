-- expect: 2:31 name_taken
CREATE TABLE o (a INT, b INT, A INT) WITH ('connector' = 'penstock');
