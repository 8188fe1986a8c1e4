-- Where their rows are; moved by their key, though the groups are finer; all in one task.
SET 'parallelism.default' = '2';
CREATE TABLE here WITH ('connector' = 'penstock') AS SELECT symbol, ok, window_end, COUNT(*) AS n
FROM TABLE(SESSION(TABLE trades PARTITION BY (symbol, ok), DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY ok, symbol, window_start, window_end;
CREATE TABLE moved WITH ('connector' = 'penstock') AS SELECT symbol, ok, window_end, COUNT(*) AS n
FROM TABLE(SESSION(TABLE trades PARTITION BY ok, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY ok, symbol, window_start, window_end;
CREATE TABLE everything WITH ('connector' = 'penstock') AS SELECT symbol, window_end, COUNT(*) AS n
FROM TABLE(SESSION(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY symbol, window_start, window_end;
