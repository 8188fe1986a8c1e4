-- expect: 2:66 bad_option
CREATE TABLE o (a INT) WITH ('connector' = 'penstock', 'scope' = 'a b');
