-- expect: 2:24 unsupported_type
CREATE TABLE o (a INT, m MAP<INT, STRING>) WITH ('connector' = 'penstock');
