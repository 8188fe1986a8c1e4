CREATE TABLE sized WITH ('connector' = 'penstock') AS SELECT
  CASE WHEN size > 1000 THEN 'large' WHEN size > 10 THEN 'middle' ELSE 'small' END AS class,
  CASE symbol WHEN 'A' THEN 1 ELSE 2 END AS rank_of, CAST(price AS STRING) AS shown, TRY_CAST(note AS INT) AS noted
FROM trades;
