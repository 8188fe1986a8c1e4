-- expect: 4:60 unbounded_state
SET 'table.exec.state.ttl' = '0 s';
CREATE TABLE o (symbol STRING, n BIGINT, PRIMARY KEY (symbol) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO o SELECT symbol, COUNT(*) FROM trades GROUP BY symbol;
