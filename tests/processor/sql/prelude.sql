-- Sources that the queries and the wrong apps of this folder use; appended to each of them.
CREATE TABLE trades (
  id STRING, symbol STRING, price DOUBLE, amount DECIMAL(10, 2), size INT, volume BIGINT, ok BOOLEAN, note STRING,
  ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'penstock', 'key' = 'symbol');
CREATE TABLE quotes (
  symbol STRING, bid DOUBLE, ask DOUBLE, at_ms BIGINT, stamp STRING,
  at_time AS TO_TIMESTAMP(stamp), WATERMARK FOR at_time AS at_time
) WITH ('connector' = 'penstock');
CREATE TABLE settings (name STRING, number INT) WITH ('connector' = 'penstock');
