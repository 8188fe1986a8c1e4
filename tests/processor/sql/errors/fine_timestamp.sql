-- expect: 2:17 unsupported_type
CREATE TABLE o (a TIMESTAMP(6)) WITH ('connector' = 'penstock');
