-- expect: 2:65 option_misplaced
CREATE TABLE o (a INT) WITH ('connector' = 'penstock', 'late' = 'update');
