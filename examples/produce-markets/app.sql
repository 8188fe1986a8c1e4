-- Produce on its way from farms to a supermarket: lots arrive at wholesale markets, farmers report what is
-- ready in the field, the back office sends vehicles. Valid Flink SQL; options in WITH are Penstock's.

-- One event a lot, as the Government of India publishes them (Agmarknet); prices in rupees per quintal.
CREATE TABLE arrivals (
  id STRING,
  `date` TIMESTAMP(3),
  state STRING,
  market STRING,
  commodity STRING,
  variety STRING,
  arrivals_tonnes DOUBLE,
  min_price DOUBLE,
  max_price DOUBLE,
  modal_price DOUBLE,
  WATERMARK FOR `date` AS `date` - INTERVAL '5' SECOND
) WITH ('connector' = 'penstock', 'key' = 'market');

-- A farmer's report from the field: so much of this is ready here.
CREATE TABLE reports (
  id STRING,
  ts TIMESTAMP(3),
  farmer STRING,
  phone STRING,
  village STRING,
  state STRING,
  commodity STRING,
  tonnes DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'penstock', 'key' = 'id');

-- The back office's answer: this vehicle and driver fetch it.
CREATE TABLE assignments (
  id STRING,
  ts TIMESTAMP(3),
  report_id STRING,
  vehicle STRING,
  driver STRING,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'penstock', 'key' = 'report_id');

-- Cheap lots: worth a telephone call.
CREATE TABLE cheap_lots WITH ('connector' = 'penstock', 'key' = 'market')
AS SELECT state, market, commodity, modal_price, arrivals_tonnes, `date`
FROM arrivals
WHERE modal_price < 500;

-- Cleaned lots: rows without a price left out, names normalised, the lot's number masked.
CREATE TABLE clean_lots WITH ('connector' = 'penstock', 'key' = 'market')
AS SELECT
  CONCAT('lot-', LEFT(SHA256(id), 8)) AS lot,
  state,
  INITCAP(TRIM(REGEXP_REPLACE(market, '\s*\(.*$', ''))) AS market,
  UPPER(commodity) AS commodity,
  COALESCE(NULLIF(TRIM(variety), ''), 'Other') AS variety,
  arrivals_tonnes,
  modal_price,
  `date`
FROM arrivals
WHERE modal_price IS NOT NULL;

-- Running and final summaries: a row is updated while its day is open, and complete once the day is over.
CREATE TABLE daily_arrivals (
  state STRING,
  commodity STRING,
  day_start TIMESTAMP(3),
  day_end TIMESTAMP(3),
  tonnes DOUBLE,
  lots BIGINT,
  average_price DOUBLE,
  PRIMARY KEY (state, commodity, day_start) NOT ENFORCED
) WITH ('connector' = 'penstock', 'emit' = 'early');

INSERT INTO daily_arrivals
SELECT state, commodity, window_start, window_end, SUM(arrivals_tonnes), COUNT(*), AVG(modal_price)
FROM TABLE(TUMBLE(TABLE arrivals, DESCRIPTOR(`date`), INTERVAL '1' DAY))
GROUP BY state, commodity, window_start, window_end;

-- An alert: a price far above this market's average of the seven days before.
CREATE VIEW week_prices AS
SELECT market, commodity, window_time AS as_of, AVG(modal_price) AS week_price
FROM TABLE(HOP(TABLE arrivals, DESCRIPTOR(`date`), INTERVAL '1' DAY, INTERVAL '7' DAY))
GROUP BY market, commodity, window_start, window_end, window_time;

CREATE TABLE price_alerts WITH ('connector' = 'penstock', 'key' = 'market')
AS SELECT
  a.state,
  a.market,
  a.commodity,
  a.modal_price,
  ROUND(w.week_price, 2) AS week_price,
  ROUND(a.modal_price / w.week_price, 2) AS ratio,
  a.`date` AS at_time
FROM arrivals AS a
JOIN week_prices AS w
  ON a.market = w.market
  AND a.commodity = w.commodity
  AND a.`date` BETWEEN w.as_of AND w.as_of + INTERVAL '1' DAY
WHERE a.modal_price > 1.4 * w.week_price;

-- The two-way story: open reports go to the back office (telephone masked) ...
CREATE TABLE open_reports WITH ('connector' = 'penstock', 'key' = 'id')
AS SELECT
  id,
  ts,
  farmer,
  CONCAT(LEFT(phone, 3), '*****', RIGHT(phone, 2)) AS phone,
  village,
  state,
  commodity,
  tonnes
FROM reports;

-- ... and the pair of report and vehicle goes to the driver.
CREATE TABLE pickups WITH ('connector' = 'penstock', 'key' = 'driver')
AS SELECT
  s.driver,
  s.vehicle,
  r.id AS report_id,
  r.farmer,
  r.phone,
  r.village,
  r.commodity,
  r.tonnes,
  s.ts AS assigned_at
FROM reports AS r
JOIN assignments AS s
  ON r.id = s.report_id
  AND s.ts BETWEEN r.ts AND r.ts + INTERVAL '1' DAY;
