-- expect: 2:29 bad_option
SET 'parallelism.default' = 'many';
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades;
