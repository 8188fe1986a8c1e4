-- Rows are numbered in a view; what WHERE says of the group itself filters rows before they are ranked.
SET 'table.exec.state.ttl' = '1 h';
CREATE VIEW numbered AS SELECT symbol, price, ROW_NUMBER() OVER (PARTITION BY symbol ORDER BY price DESC, size + 1) AS n
FROM trades;
CREATE TABLE best (symbol STRING, n BIGINT, price DOUBLE, PRIMARY KEY (symbol, n) NOT ENFORCED)
WITH ('connector' = 'penstock');
INSERT INTO best SELECT symbol, n, price FROM numbered WHERE n <= 3 AND symbol <> 'a' AND price > 1;
