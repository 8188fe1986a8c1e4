-- expect: 3:20 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades
WHERE size > 10 OR size IN (SELECT number FROM settings);
