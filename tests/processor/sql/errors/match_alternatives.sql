-- expect: 3:62 syntax
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT * FROM trades
MATCH_RECOGNIZE (ORDER BY ts MEASURES A.id AS a PATTERN (A B | C) WITHIN INTERVAL '1' HOUR DEFINE A AS A.size > 1);
