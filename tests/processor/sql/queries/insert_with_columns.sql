CREATE TABLE some (a STRING, b DOUBLE, c BIGINT) WITH ('connector' = 'penstock');
INSERT INTO some (c, a) SELECT size, symbol FROM trades;
