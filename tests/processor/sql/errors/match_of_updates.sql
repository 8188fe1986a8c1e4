-- expect: 4:72 reads_updates
SET 'table.exec.state.ttl' = '1 h';
CREATE VIEW v AS SELECT symbol, MAX(ts) AS ts FROM trades GROUP BY symbol;
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM v MATCH_RECOGNIZE (
  ORDER BY ts MEASURES A.symbol AS symbol PATTERN (A B) DEFINE A AS A.symbol > 'a');
