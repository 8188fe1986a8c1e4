-- By the source's key where that is enough; else partial results, rows with DISTINCT, one group for all, join sides,
-- a primary key that is none of the source's, two writers of one stream, and a reader of it.
SET 'parallelism.default' = '2';
CREATE TABLE where_they_are WITH ('connector' = 'penstock')
AS SELECT symbol, ok, window_start, SUM(price) AS total
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY symbol, ok, window_start, window_end;
CREATE TABLE partial WITH ('connector' = 'penstock')
AS SELECT ok, window_start, AVG(price) AS price, COUNT(*) AS n
FROM TABLE(HOP(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '1' HOUR))
GROUP BY ok, window_start, window_end;
CREATE TABLE kinds WITH ('connector' = 'penstock')
AS SELECT ok, window_start, COUNT(DISTINCT symbol) AS kinds
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY ok, window_start, window_end;
CREATE TABLE everything WITH ('connector' = 'penstock')
AS SELECT window_start, MAX(price) AS best
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
CREATE TABLE pairs WITH ('connector' = 'penstock')
AS SELECT t.id, q.bid FROM trades AS t JOIN quotes AS q
ON t.symbol = q.symbol AND t.ts BETWEEN q.at_time AND q.at_time + INTERVAL '1' MINUTE;
CREATE TABLE last_note (note STRING, price DOUBLE, PRIMARY KEY (note) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO last_note SELECT note, price FROM trades;
CREATE TABLE both_kinds (note STRING, at_time TIMESTAMP(3), WATERMARK FOR at_time AS at_time)
WITH ('connector' = 'penstock', 'partitions' = '2');
INSERT INTO both_kinds SELECT symbol, at_time FROM quotes;
INSERT INTO both_kinds SELECT CAST(ok AS STRING), window_time
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY ok, window_start, window_end, window_time;
CREATE TABLE notes_a_minute WITH ('connector' = 'penstock')
AS SELECT note, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE both_kinds, DESCRIPTOR(at_time), INTERVAL '1' MINUTE)) GROUP BY note, window_start, window_end;
