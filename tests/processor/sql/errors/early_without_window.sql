-- expect: 4:13 early_without_window
CREATE TABLE o (symbol STRING, PRIMARY KEY (symbol) NOT ENFORCED)
WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO o SELECT symbol FROM trades;
