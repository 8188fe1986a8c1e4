CREATE VIEW numbers AS SELECT size AS n FROM trades UNION ALL SELECT volume FROM trades;
CREATE TABLE high WITH ('connector' = 'penstock') AS SELECT n FROM numbers WHERE n > 5;
