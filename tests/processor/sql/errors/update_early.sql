-- expect: 5:13 early_without_window
SET 'table.exec.state.ttl' = '1 h';
CREATE TABLE o (symbol STRING, n BIGINT, PRIMARY KEY (symbol) NOT ENFORCED)
WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO o SELECT symbol, COUNT(*) FROM trades GROUP BY symbol;
