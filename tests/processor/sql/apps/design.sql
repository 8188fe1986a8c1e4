CREATE TABLE arrivals (                       -- no writer: a source; events come from the ingest gateway
  market STRING, state STRING, commodity STRING, variety STRING,
  arrivals_tonnes DOUBLE, min_price DOUBLE, max_price DOUBLE, modal_price DOUBLE,
  ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' DAY
) WITH ('connector' = 'penstock', 'key' = 'market');

CREATE TABLE cheap_lots WITH ('connector' = 'penstock')
AS SELECT market, commodity, modal_price, ts FROM arrivals WHERE modal_price < 500;

CREATE TABLE daily_arrivals (
  state STRING, commodity STRING, day_start TIMESTAMP(3), day_end TIMESTAMP(3), tonnes DOUBLE, lots BIGINT,
  PRIMARY KEY (state, commodity, day_start) NOT ENFORCED
) WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO daily_arrivals
SELECT state, commodity, window_start, window_end, SUM(arrivals_tonnes), COUNT(*)
FROM TABLE(TUMBLE(TABLE arrivals, DESCRIPTOR(ts), INTERVAL '1' DAY))
GROUP BY state, commodity, window_start, window_end;
