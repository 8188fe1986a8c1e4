-- expect: 2:69 duplicate_option
CREATE TABLE o (a INT) WITH ('connector' = 'penstock', 'key' = 'a', 'key' = 'a');
