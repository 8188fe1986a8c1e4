-- expect: 2:17 unsupported
CREATE TABLE o (a INT) WITH ('connector' = 'penstock') AS SELECT size AS a FROM trades;
