-- expect: 2:56 option_misplaced
CREATE TABLE o (a INT) WITH ('connector' = 'penstock', 'lateness' = '1 h');
