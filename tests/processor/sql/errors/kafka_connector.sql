-- expect: 3:86 unsupported
CREATE TABLE o (a INT)
WITH ('connector' = 'kafka', 'topic' = 'o', 'format' = 'json', 'scan.startup.mode' = 'group-offsets',
      'properties.bootstrap.servers' = 'localhost:9092');
