-- expect: 3:20 stray_comma
CREATE TABLE o WITH ('connector' = 'penstock') AS
SELECT symbol price, FROM trades;
