-- expect: 2:17 bad_name
CREATE TABLE o (_id STRING, x INT) WITH ('connector' = 'penstock');
