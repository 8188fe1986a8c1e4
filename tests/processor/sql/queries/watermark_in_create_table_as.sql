CREATE TABLE good (WATERMARK FOR ts AS ts - INTERVAL '1' SECOND, PRIMARY KEY (id) NOT ENFORCED)
WITH ('connector' = 'penstock') AS SELECT id, ts FROM trades;
