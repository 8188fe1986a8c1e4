CREATE TABLE dips WITH ('connector' = 'penstock') AS
SELECT symbol, low, size + 1 AS size, ended FROM trades MATCH_RECOGNIZE (
  PARTITION BY symbol ORDER BY ts, id DESC
  MEASURES LAST(D.price) AS low, SUM(D.size) AS size, MATCH_ROWTIME() AS ended, COUNT(D.id) AS days
  ONE ROW PER MATCH AFTER MATCH SKIP TO LAST U
  PATTERN (S D{2,} U+?) WITHIN INTERVAL '1' HOUR
  DEFINE D AS D.price < LAST(price, 1) AND D.ok, U AS U.price > AVG(D.price)) WHERE symbol = 'ACME' AND low > 1;
