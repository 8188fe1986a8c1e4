-- expect: 3:6 syntax
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol, COUNT(*) AS n
FROM TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY symbol, window_start, window_end;
