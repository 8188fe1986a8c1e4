CREATE TABLE doubled WITH ('connector' = 'penstock')
AS SELECT symbol, twice + 1 AS plus_one FROM (SELECT symbol, price * 2 AS twice FROM trades) AS t WHERE twice > 10;
