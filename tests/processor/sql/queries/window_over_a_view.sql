CREATE VIEW clean AS SELECT TRIM(symbol) AS s, price, ts AS at_time FROM trades WHERE price > 0;
CREATE TABLE hourly WITH ('connector' = 'penstock') AS SELECT s, MAX(price) AS high
FROM TABLE(TUMBLE(TABLE clean, DESCRIPTOR(at_time), INTERVAL '1' HOUR)) GROUP BY s, window_start, window_end;
