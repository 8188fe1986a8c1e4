-- expect: 3:10 unbounded_state
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol, COUNT(*) AS n FROM trades
GROUP BY symbol;
