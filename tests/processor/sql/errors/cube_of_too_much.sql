-- expect: 3:104 too_large
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end, CUBE (id, symbol, price, size, volume, ok, note);
