"""The apps under load, as streaming SQL."""

READINGS = """
CREATE TABLE readings (id STRING, ts TIMESTAMP(3), device STRING, celsius DOUBLE, note STRING,
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'penstock', 'key' = 'device'{dedupe});
"""

#: The single POST and the NDJSON POST: admission and log, one rule that never hits.
INGEST = (
    READINGS
    + """
CREATE TABLE burning WITH ('connector' = 'penstock') AS SELECT id, device FROM readings WHERE celsius > 1000;
"""
)

#: Fan-out: what comes in goes out, about 128 bytes an envelope.
ECHO = """
CREATE TABLE pings (n BIGINT, sent_ns BIGINT, note STRING) WITH ('connector' = 'penstock');
CREATE TABLE pongs WITH ('connector' = 'penstock', 'store' = 'false') AS SELECT n, sent_ns, note FROM pings;
"""

#: The whole system: a rule to subscribers, a window to the store.
WHOLE = (
    READINGS
    + """
CREATE TABLE warm WITH ('connector' = 'penstock', 'store' = 'false')
AS SELECT id, device, celsius FROM readings WHERE celsius >= 39;
CREATE TABLE per_device (device STRING, w_start TIMESTAMP(3), n BIGINT, mean DOUBLE, most DOUBLE,
  PRIMARY KEY (device, w_start) NOT ENFORCED) WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO per_device
SELECT device, window_start, COUNT(*), AVG(celsius), MAX(celsius)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY device, window_start, window_end;
"""
)
