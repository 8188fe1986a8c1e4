-- expect: 2:56 unsupported
CREATE TABLE o (a INT) WITH ('connector' = 'penstock', 'late' = 'update');
