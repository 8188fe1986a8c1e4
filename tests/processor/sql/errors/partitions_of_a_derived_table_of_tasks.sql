-- expect: 3:48 option_misplaced
SET 'parallelism.default' = '2';
CREATE TABLE o WITH ('connector' = 'penstock', 'partitions' = '4') AS SELECT symbol FROM trades;
