-- expect: 2:90 unbounded_state
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades UNION SELECT symbol FROM quotes;
