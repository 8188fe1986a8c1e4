-- expect: 3:12 syntax
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT * FROM trades MATCH_RECOGNIZE (ORDER BY ts
  MEASURES SUM(A.size + B.size) AS s PATTERN (A B) WITHIN INTERVAL '1' HOUR DEFINE A AS A.size > 1);
