-- expect: 3:71 bad_option
SET 'parallelism.default' = '2';
CREATE TABLE o (a INT) WITH ('connector' = 'penstock', 'partitions' = '3');
