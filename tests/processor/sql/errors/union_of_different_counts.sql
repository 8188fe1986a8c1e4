-- expect: 3:18 column_count
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades
UNION ALL SELECT symbol, bid FROM quotes;
