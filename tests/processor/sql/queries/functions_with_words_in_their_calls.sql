CREATE TABLE words WITH ('connector' = 'penstock')
AS SELECT
  JSON_VALUE(symbol, '$.a' RETURNING INTEGER DEFAULT 0 ON EMPTY) AS a,
  JSON_OBJECT(KEY 's' VALUE symbol, KEY 'p' VALUE price) AS o,
  (CAST('2018-01-01' AS DATE), INTERVAL '1' DAY) OVERLAPS (DATE '2018-01-02', INTERVAL '1' DAY) AS met,
  REGEXP_COUNT(symbol, '\d') AS digits
FROM trades
WHERE symbol IS NOT JSON ARRAY AND symbol SIMILAR TO 'a!%(b|c)' ESCAPE '!' AND symbol NOT LIKE 'x!_%' ESCAPE '!';
