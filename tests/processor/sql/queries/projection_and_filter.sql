CREATE TABLE big WITH ('connector' = 'penstock')
AS SELECT symbol, price * size AS worth, ts FROM trades WHERE size > 100 AND price IS NOT NULL;
