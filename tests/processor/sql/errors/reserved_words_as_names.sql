-- expect: 2:14 reserved_word | 3:39 reserved_word | 5:16 reserved_word | 6:31 reserved_word
CREATE TABLE user (id STRING) WITH ('connector' = 'penstock');
CREATE TABLE visits (id STRING, r ROW<value INT>, `date` DATE) WITH ('connector' = 'penstock');
CREATE VIEW seen AS
  SELECT id AS result FROM visits
  CROSS JOIN UNNEST(items) AS element(x);
