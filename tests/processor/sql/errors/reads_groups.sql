-- expect: 5:1 reads_updates
SET 'table.exec.state.ttl' = '1 h';
CREATE TABLE latest (symbol STRING, n BIGINT, PRIMARY KEY (symbol) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO latest SELECT symbol, COUNT(*) FROM trades GROUP BY symbol;
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM latest;
