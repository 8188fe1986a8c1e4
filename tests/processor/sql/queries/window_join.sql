-- Equal windows on both sides: rows wait until the window ends. WHERE over the rows that are kept goes below the join.
CREATE TABLE o WITH ('connector' = 'penstock') AS
SELECT l.symbol, l.price, r.bid, l.window_start
FROM (SELECT * FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR))) AS l
LEFT JOIN (SELECT * FROM TABLE(TUMBLE(TABLE quotes, DESCRIPTOR(at_time), INTERVAL '1' HOUR))) AS r
ON l.symbol = r.symbol AND l.window_start = r.window_start AND l.window_end = r.window_end AND r.bid > 0 AND l.price > 1
WHERE l.size > 2 AND r.ask IS NULL;
