-- expect: 3:45 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT * FROM trades
MATCH_RECOGNIZE (ORDER BY ts PATTERN (A B C B2+) WITHIN INTERVAL '1' HOUR);
