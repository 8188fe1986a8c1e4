SET 'table.exec.state.ttl' = '1 h';
CREATE TABLE o (g BIGINT, symbol STRING, n BIGINT, PRIMARY KEY (g, symbol) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO o SELECT GROUPING_ID(symbol), CASE WHEN GROUPING(symbol) = 1 THEN 'all' ELSE symbol END, COUNT(*)
FROM trades GROUP BY GROUPING SETS ((symbol), ());
