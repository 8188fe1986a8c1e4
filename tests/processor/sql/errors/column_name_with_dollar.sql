-- expect: 2:17 bad_name
CREATE TABLE o (`$op` INT) WITH ('connector' = 'penstock');
