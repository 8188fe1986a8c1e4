-- expect: 2:98 no_event_time
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT * FROM trades MATCH_RECOGNIZE (ORDER BY size
  MEASURES A.id AS a PATTERN (A B) WITHIN INTERVAL '1' HOUR DEFINE A AS A.size > 1);
