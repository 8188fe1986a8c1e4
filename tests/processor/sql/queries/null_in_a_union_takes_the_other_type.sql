CREATE VIEW noted AS SELECT symbol, NULL AS note, size * 2 AS twice FROM trades UNION ALL SELECT symbol, stamp, at_ms FROM quotes;
CREATE TABLE twice WITH ('connector' = 'penstock') AS SELECT symbol, note FROM noted WHERE twice > 3;
