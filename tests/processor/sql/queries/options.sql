SET 'table.exec.source.idle-timeout' = '10 s';
SET 'parallelism.default' = '4';
CREATE TABLE devices (id STRING, rev INT, room STRING, at_time TIMESTAMP_LTZ(3), WATERMARK FOR at_time AS at_time - INTERVAL '1' SECOND)
WITH ('connector' = 'penstock', 'key' = 'room', 'partitions' = '4', 'dedupe' = 'id,rev', 'unknown' = 'reject', 'retention' = '7 d',
  'scope' = 'devices:all', 'max-ahead' = '10 min', 'scan.watermark.idle-timeout' = '5 s', 'late' = 'reject');
CREATE TABLE rooms WITH ('connector' = 'penstock', 'publish' = 'true', 'store' = 'false', 'retention' = '36 h') AS
SELECT room, window_start, window_time, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE devices, DESCRIPTOR(at_time), INTERVAL '1' HOUR))
GROUP BY room, window_start, window_end, window_time;
