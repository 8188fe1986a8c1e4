-- expect: 2:50 update_without_key
SET 'table.exec.state.ttl' = '1 h'; CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol, COUNT(*) AS n
FROM trades GROUP BY symbol;
