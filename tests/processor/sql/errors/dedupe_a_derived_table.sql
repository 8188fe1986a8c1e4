-- expect: 2:48 option_misplaced
CREATE TABLE o WITH ('connector' = 'penstock', 'dedupe' = 'symbol') AS SELECT symbol FROM trades;
