-- expect: 2:88 double_equals
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades WHERE size == 1;
