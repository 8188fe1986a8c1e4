CREATE VIEW matched AS SELECT t.symbol, t.price - q.bid AS gain, t.ts FROM trades AS t JOIN quotes AS q
ON t.symbol = q.symbol AND t.ts BETWEEN q.at_time AND q.at_time + INTERVAL '1' MINUTE;
CREATE TABLE gains WITH ('connector' = 'penstock') AS SELECT symbol, SUM(gain) AS gain
FROM TABLE(TUMBLE(TABLE matched, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
