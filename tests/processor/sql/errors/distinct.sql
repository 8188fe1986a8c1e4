-- expect: 2:67 unbounded_state
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT DISTINCT symbol FROM trades;
