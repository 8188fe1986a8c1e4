-- expect: 2:58 unknown_relation
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT q.symbol FROM trades AS t;
