CREATE TABLE doubled WITH ('connector' = 'penstock')
AS SELECT symbol, twice + 1 AS value_of FROM (SELECT symbol, price * 2 AS twice FROM trades) AS t WHERE twice > 10;
