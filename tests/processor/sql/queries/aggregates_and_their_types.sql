CREATE TABLE stats WITH ('connector' = 'penstock') AS SELECT window_end,
  COUNT(*) AS n, COUNT(1) AS ones, COUNT(note) AS noted, COUNT(DISTINCT symbol) AS symbols,
  SUM(size) AS sizes, SUM(amount) AS amounts, AVG(size) AS mean_size, AVG(amount) AS mean_amount, AVG(price) AS mean_price,
  MIN(symbol) AS first_symbol, MAX(ts) AS latest, MAX(ok) AS any_ok
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
