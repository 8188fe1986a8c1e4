-- expect: 2:101 bad_option
CREATE TABLE o (a INT, b INT, PRIMARY KEY (a) NOT ENFORCED) WITH ('connector' = 'penstock', 'key' = 'b');
INSERT INTO o SELECT size, size FROM trades;
