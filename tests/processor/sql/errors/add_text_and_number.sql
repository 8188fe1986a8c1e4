-- expect: 2:58 type_mismatch
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol + 1 AS x FROM trades;
