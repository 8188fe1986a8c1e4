CREATE TABLE seen WITH ('connector' = 'penstock') AS SELECT symbol, at_time FROM quotes WHERE bid > ask;
