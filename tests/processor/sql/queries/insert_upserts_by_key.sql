CREATE TABLE latest (symbol STRING, price DOUBLE, ts TIMESTAMP(3), PRIMARY KEY (symbol) NOT ENFORCED)
WITH ('connector' = 'penstock');
INSERT INTO latest SELECT symbol, price, ts FROM trades;
