CREATE TABLE chosen (a STRING, b DOUBLE, c BIGINT) WITH ('connector' = 'penstock');
INSERT INTO chosen (c, a) SELECT size, symbol FROM trades;
