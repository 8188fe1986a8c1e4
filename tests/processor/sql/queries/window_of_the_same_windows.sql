-- Grouped again by start and end, under other names, filtered, and once more; the watermark of the result is theirs.
CREATE VIEW counts AS SELECT symbol, COUNT(*) AS num, window_start AS starttime, window_end AS endtime, window_time AS t
FROM TABLE(HOP(TABLE trades, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY symbol, window_start, window_end, window_time;
CREATE VIEW best AS SELECT MAX(num) AS most, COUNT(DISTINCT symbol) AS symbols, endtime, starttime, t
FROM counts AS c WHERE num > 1 GROUP BY c.starttime, c.endtime, t;
CREATE TABLE most WITH ('connector' = 'penstock') AS SELECT starttime, MIN(most) AS most FROM best GROUP BY endtime, starttime;
CREATE TABLE hours WITH ('connector' = 'penstock') AS SELECT window_end, SUM(symbols) AS symbols
FROM TABLE(TUMBLE(TABLE best, DESCRIPTOR(t), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
