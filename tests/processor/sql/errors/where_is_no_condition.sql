-- expect: 2:83 type_mismatch
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades WHERE size + 1;
