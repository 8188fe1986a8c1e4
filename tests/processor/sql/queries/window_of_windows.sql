CREATE VIEW minutes AS SELECT symbol, window_time AS at_time, SUM(volume) AS volume
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY symbol, window_start, window_end, window_time;
CREATE TABLE hours WITH ('connector' = 'penstock') AS SELECT symbol, window_start, MAX(volume) AS busiest_minute
FROM TABLE(TUMBLE(TABLE minutes, DESCRIPTOR(at_time), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
