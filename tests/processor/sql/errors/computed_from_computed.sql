-- expect: 2:41 unknown_column
CREATE TABLE o (a INT, b AS a + 1, c AS b + 1) WITH ('connector' = 'penstock');
