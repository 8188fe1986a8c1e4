-- expect: 3:16 unknown_column
CREATE TABLE o WITH ('connector' = 'penstock') AS
SELECT symbol, prise FROM trades;
