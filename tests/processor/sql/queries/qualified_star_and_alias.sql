CREATE TABLE copy WITH ('connector' = 'penstock') AS SELECT t.*, t.price + 1 AS rest FROM trades AS t;
