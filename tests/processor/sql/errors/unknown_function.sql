-- expect: 2:58 unknown_function
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT UPER(symbol) AS u FROM trades;
