-- expect: 2:44 unknown_connector
CREATE TABLE o (a INT) WITH ('connector' = 'pemstock');
