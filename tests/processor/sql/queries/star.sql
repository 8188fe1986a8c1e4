CREATE TABLE copy WITH ('connector' = 'penstock') AS SELECT * FROM trades;
