-- expect: 2:48 option_misplaced
CREATE TABLE o WITH ('connector' = 'penstock', 'partitions' = '4') AS SELECT symbol FROM trades;
