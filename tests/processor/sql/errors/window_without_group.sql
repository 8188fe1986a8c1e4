-- expect: 2:58 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT * FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' HOUR));
