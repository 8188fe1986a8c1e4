-- Filters on the source go below the lookup; the time of processing is gone from the plan.
CREATE TABLE names (symbol STRING, name STRING) WITH ('connector' = 'http', 'url' = 'http://names.example/{symbol}');
CREATE TABLE o WITH ('connector' = 'penstock') AS
SELECT t.id, n.name FROM (SELECT *, PROCTIME() AS p FROM trades) AS t
JOIN names FOR SYSTEM_TIME AS OF t.p AS n ON t.symbol = n.symbol AND n.name <> '' WHERE t.size > 1;
