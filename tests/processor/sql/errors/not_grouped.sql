-- expect: 3:3 not_grouped
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol,
  note, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end;
