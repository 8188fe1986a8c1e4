-- expect: 2:58 ambiguous_column
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades AS t JOIN quotes AS q
  ON t.symbol = q.symbol AND t.ts BETWEEN q.at_time AND q.at_time + INTERVAL '1' MINUTE;
