CREATE TABLE wide (a BIGINT, b DOUBLE, c DECIMAL(20, 2), d DOUBLE) WITH ('connector' = 'penstock');
INSERT INTO wide SELECT size, size, volume, amount FROM trades;
