-- expect: 2:71 bad_option
CREATE TABLE o (a INT) WITH ('connector' = 'penstock', 'partitions' = 'many');
