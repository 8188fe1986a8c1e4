-- expect: 4:1 reads_updates
CREATE TABLE latest (symbol STRING, price DOUBLE, PRIMARY KEY (symbol) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO latest SELECT symbol, price FROM trades;
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM latest;
