-- expect: 3:18 type_mismatch
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades
UNION ALL SELECT bid FROM quotes;
