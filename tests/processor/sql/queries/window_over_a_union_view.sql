CREATE VIEW all_prices AS SELECT symbol, price, ts FROM trades UNION ALL SELECT symbol, ask, at_time FROM quotes;
CREATE TABLE hourly WITH ('connector' = 'penstock') AS SELECT symbol, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE all_prices, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
