-- expect: 3:10 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades
ORDER BY symbol;
