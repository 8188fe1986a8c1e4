-- expect: 2:90 too_deep
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT ((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((price)))))))))))))))))))))))))))))))))))))))))))))))))))))))))))) AS p FROM trades;
