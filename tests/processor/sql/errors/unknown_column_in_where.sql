-- expect: 3:9 unknown_column
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades
  WHERE sise > 1;
