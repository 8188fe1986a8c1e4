-- Results of equal windows are joined when the windows end, and grouped by them again.
CREATE TABLE o WITH ('connector' = 'penstock') AS
SELECT a.s, COUNT(*) AS pairs FROM
(SELECT symbol, window_start AS s, window_end AS e FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR))
 GROUP BY symbol, window_start, window_end) AS a
JOIN (SELECT symbol, window_start AS s, window_end AS e
 FROM TABLE(TUMBLE(TABLE quotes, DESCRIPTOR(at_time), INTERVAL '1' HOUR)) GROUP BY symbol, window_start, window_end) AS b
ON a.s = b.s AND a.e = b.e AND a.symbol = b.symbol GROUP BY a.s, a.e;
