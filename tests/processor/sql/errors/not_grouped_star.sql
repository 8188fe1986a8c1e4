-- expect: 3:8 not_grouped
CREATE TABLE o WITH ('connector' = 'penstock') AS
SELECT * FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
