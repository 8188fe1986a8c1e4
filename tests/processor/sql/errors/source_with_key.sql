-- expect: 3:16 source_with_key
CREATE TABLE o (a INT,
  PRIMARY KEY (a) NOT ENFORCED) WITH ('connector' = 'penstock');
