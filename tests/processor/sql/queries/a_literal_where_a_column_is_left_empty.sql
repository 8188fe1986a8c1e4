CREATE TABLE marked (s STRING, n DECIMAL(10, 2), missing STRING) WITH ('connector' = 'penstock');
INSERT INTO marked SELECT symbol, 1, NULL FROM trades WHERE note IS NULL;
