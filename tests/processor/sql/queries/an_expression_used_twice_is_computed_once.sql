CREATE TABLE squared WITH ('connector' = 'penstock')
AS SELECT twice * twice AS squared FROM (SELECT price * 2 AS twice FROM trades) AS t;
