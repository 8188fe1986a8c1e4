CREATE TABLE cheap WITH ('connector' = 'penstock') AS
WITH small AS (SELECT symbol, price, size FROM trades WHERE size < 10), cheap AS (SELECT * FROM small WHERE price < 5)
SELECT symbol, size FROM cheap;
