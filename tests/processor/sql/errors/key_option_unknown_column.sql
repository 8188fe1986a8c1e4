-- expect: 2:64 unknown_column
CREATE TABLE o (a INT) WITH ('connector' = 'penstock', 'key' = 'b');
