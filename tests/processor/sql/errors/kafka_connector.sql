-- expect: 3:21 unsupported
CREATE TABLE o (a INT)
WITH ('connector' = 'kafka');
