-- expect: 2:67 unknown_column
CREATE TABLE o (a INT) WITH ('connector' = 'penstock', 'dedupe' = 'a,b');
