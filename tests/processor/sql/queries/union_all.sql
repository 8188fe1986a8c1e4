CREATE TABLE prices WITH ('connector' = 'penstock') AS
SELECT symbol, price, ts FROM trades UNION ALL SELECT symbol, bid, at_time FROM quotes
UNION ALL SELECT symbol, ask, at_time FROM quotes;
