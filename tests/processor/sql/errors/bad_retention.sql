-- expect: 2:70 bad_option
CREATE TABLE o (a INT) WITH ('connector' = 'penstock', 'retention' = 'a week');
