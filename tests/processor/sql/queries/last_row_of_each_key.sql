-- The number itself is not selected, so it is not computed; of rows with one time the one that came last is first.
SET 'table.exec.state.ttl' = '1 h';
CREATE TABLE latest (symbol STRING, price DOUBLE, PRIMARY KEY (symbol) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO latest SELECT symbol, price FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY symbol ORDER BY ts DESC) AS n FROM trades) WHERE n = 1;
