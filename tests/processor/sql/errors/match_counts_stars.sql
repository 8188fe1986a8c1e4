-- expect: 3:12 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT * FROM trades MATCH_RECOGNIZE (ORDER BY ts
  MEASURES COUNT(*) AS c PATTERN (A B) WITHIN INTERVAL '1' HOUR);
