-- expect: 4:24 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT * FROM trades
MATCH_RECOGNIZE (ORDER BY ts MEASURES A.id AS a PATTERN (A B) WITHIN INTERVAL '1' HOUR
  DEFINE B AS B.size > PREV(B.size));
