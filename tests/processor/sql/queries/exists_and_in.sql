SET 'table.exec.state.ttl' = '1 h';
CREATE TABLE matched WITH ('connector' = 'penstock') AS
SELECT t.symbol, t.price FROM trades AS t
WHERE EXISTS (SELECT 1 FROM quotes AS q WHERE q.symbol = t.symbol AND q.bid > t.price AND q.ask < 9)
  AND size IN (SELECT number FROM settings) AND t.price > 1;
