CREATE TABLE answers WITH ({sink}) AS
SELECT auction, COUNT(*) AS n, MAX(price) AS most, AVG(price) AS mean
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY auction, window_start, window_end;
