-- expect: 2:37 enforced_key
CREATE TABLE o (a INT, PRIMARY KEY (a)) WITH ('connector' = 'penstock');
INSERT INTO o SELECT size FROM trades;
