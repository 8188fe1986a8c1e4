CREATE VIEW dear (s, p) AS SELECT symbol, price FROM trades;
CREATE TABLE named WITH ('connector' = 'penstock') AS SELECT s, p FROM dear;
