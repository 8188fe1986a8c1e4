-- expect: 2:70 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM db.trades;
