CREATE TEMPORARY VIEW dear AS SELECT symbol, price, ts FROM trades WHERE price > 100;
CREATE TABLE very_dear WITH ('connector' = 'penstock') AS SELECT symbol, price FROM dear WHERE price > 1000;
