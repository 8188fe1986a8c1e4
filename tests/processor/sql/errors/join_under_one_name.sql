-- expect: 3:6 ambiguous_relation
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT price FROM trades
JOIN trades ON size = volume;
