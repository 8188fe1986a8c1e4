-- expect: 2:72 unbounded_state
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT * FROM trades MATCH_RECOGNIZE (
  ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS B.size > A.size);
