SET 'table.exec.state.ttl' = '12 h';
CREATE TABLE o (n BIGINT, symbols BIGINT, best DOUBLE, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO o
SELECT n, COUNT(*), MAX(total)
FROM (SELECT symbol, COUNT(*) AS n, SUM(price) AS total FROM trades GROUP BY symbol HAVING symbol <> 'x') AS g
WHERE n < 10 GROUP BY n;
