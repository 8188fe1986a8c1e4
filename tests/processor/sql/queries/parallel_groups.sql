SET 'table.exec.state.ttl' = '1 h';
SET 'parallelism.default' = '2';
CREATE TABLE by_size (size INT, n BIGINT, PRIMARY KEY (size) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO by_size SELECT size, COUNT(*) FROM trades GROUP BY size;
CREATE TABLE by_symbol (symbol STRING, n BIGINT, PRIMARY KEY (symbol) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO by_symbol SELECT symbol, COUNT(*) FROM trades GROUP BY symbol;
