-- expect: 4:13 update_key
SET 'table.exec.state.ttl' = '1 h';
CREATE TABLE o (symbol STRING, n BIGINT, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO o SELECT symbol, COUNT(*) FROM trades GROUP BY symbol;
