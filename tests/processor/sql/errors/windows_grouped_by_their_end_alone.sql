-- expect: 3:101 unbounded_state
CREATE VIEW v AS SELECT symbol, COUNT(*) AS n, window_start, window_end FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT MAX(n) AS most, window_end FROM v GROUP BY window_end;
