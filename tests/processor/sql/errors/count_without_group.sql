-- expect: 2:58 unbounded_state
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT COUNT(*) AS n FROM trades;
