-- expect: 3:6 unknown_table
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol
FROM trade;
