-- expect: 2:91 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol AS `a b` FROM trades AS t(x, y);
