SET 'table.exec.state.ttl' = '1 h';
SET 'parallelism.default' = '2';
CREATE TABLE o (n BIGINT, symbols BIGINT, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO o SELECT n, COUNT(*) FROM (SELECT symbol, COUNT(*) AS n FROM trades GROUP BY symbol) AS g GROUP BY n;
