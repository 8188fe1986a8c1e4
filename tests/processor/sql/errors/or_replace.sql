-- expect: 2:1 syntax
CREATE OR REPLACE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades;
