SET 'table.exec.state.ttl' = '1 h';
CREATE TABLE o WITH ('connector' = 'penstock') AS
SELECT DISTINCT symbol, size FROM trades WHERE ok UNION SELECT symbol, 0 FROM quotes;
