-- Earthquakes of the world, as the USGS reports them: severity, counts per region, revised records.

CREATE TABLE quakes (
  id STRING,
  `time` TIMESTAMP(3),
  updated TIMESTAMP(3),
  mag DOUBLE,
  magType STRING,
  place STRING,
  type STRING,
  status STRING,
  net STRING,
  tsunami INT,
  sig INT,
  lon DOUBLE,
  lat DOUBLE,
  depth_km DOUBLE,
  region AS TRIM(REGEXP_EXTRACT(place, '([^,]+)$', 1)),
  WATERMARK FOR `time` AS `time` - INTERVAL '1' MINUTE
) WITH (
  'connector' = 'penstock',
  'key' = 'id',
  'dedupe' = 'id,updated' -- a revision has the same id and is not a duplicate
);

-- The latest revision of each quake, with a word for its size.
CREATE TABLE latest_quakes (
  id STRING,
  `time` TIMESTAMP(3),
  updated TIMESTAMP(3),
  mag DOUBLE,
  severity STRING,
  region STRING,
  place STRING,
  lon DOUBLE,
  lat DOUBLE,
  depth_km DOUBLE,
  PRIMARY KEY (id) NOT ENFORCED
) WITH ('connector' = 'penstock');

INSERT INTO latest_quakes
SELECT
  id, `time`, updated, mag,
  CASE
    WHEN mag >= 6.0 THEN 'strong'
    WHEN mag >= 4.5 THEN 'moderate'
    WHEN mag >= 2.5 THEN 'light'
    ELSE 'micro'
  END,
  region, place, lon, lat, depth_km
FROM quakes
WHERE type = 'earthquake';

-- Severity rules: what somebody should look at now.
CREATE TABLE quake_alerts WITH ('connector' = 'penstock', 'key' = 'id')
AS SELECT id, `time`, mag, place, region, lon, lat,
  CASE WHEN tsunami = 1 THEN 'tsunami' WHEN mag >= 6.0 THEN 'strong' ELSE 'moderate' END AS severity
FROM quakes
WHERE type = 'earthquake' AND (mag >= 4.5 OR tsunami = 1);

-- Counts per region and hour.
CREATE TABLE quakes_per_region (
  region STRING,
  hour_start TIMESTAMP(3),
  hour_end TIMESTAMP(3),
  quakes BIGINT,
  strongest DOUBLE,
  PRIMARY KEY (region, hour_start) NOT ENFORCED
) WITH ('connector' = 'penstock', 'emit' = 'early');

INSERT INTO quakes_per_region
SELECT region, window_start, window_end, COUNT(*), MAX(mag)
FROM TABLE(TUMBLE(TABLE quakes, DESCRIPTOR(`time`), INTERVAL '1' HOUR))
WHERE region IS NOT NULL
GROUP BY region, window_start, window_end;
