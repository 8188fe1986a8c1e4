-- expect: 3:82 unknown_variable
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT * FROM trades MATCH_RECOGNIZE (ORDER BY ts
  MEASURES A.id AS a PATTERN (A B) WITHIN INTERVAL '1' HOUR DEFINE B AS B.size > C.size);
