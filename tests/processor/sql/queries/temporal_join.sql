-- Versions are never filtered; a condition over the left side goes below the join.
CREATE TABLE rates (currency STRING, rate DOUBLE, since TIMESTAMP(3), WATERMARK FOR since AS since,
  PRIMARY KEY (currency) NOT ENFORCED) WITH ('connector' = 'penstock');
CREATE TABLE o WITH ('connector' = 'penstock') AS
SELECT t.id, t.ts, r.rate FROM trades AS t LEFT JOIN rates FOR SYSTEM_TIME AS OF t.ts AS r ON t.symbol = r.currency
WHERE t.size > 1 AND r.rate > 2;
