CREATE TABLE weekly WITH ('connector' = 'penstock') AS
SELECT window_start AS week, COUNT(symbol) AS trades
FROM TABLE(TUMBLE(DATA => TABLE trades, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '7' DAY, `OFFSET` => INTERVAL '4' DAY))
GROUP BY window_start, window_end;
