-- expect: 2:60 bad_option
CREATE TABLE o WITH ('connector' = 'penstock', 'publish' = 'yes') AS SELECT symbol FROM trades;
