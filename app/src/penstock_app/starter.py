"""The files that `penstock init` writes."""

from __future__ import annotations

__all__ = ["STARTER_FILES"]

_APP = """\
-- A Penstock app is streaming SQL (a subset of Apache Flink's). Start it with `penstock up . --watch`, then edit:
-- every save is checked and takes effect at once.

-- A table that no statement writes to is a source: events come in over HTTP,
-- POST /v1/streams/orders/events, or with `penstock send orders orders.ndjson`.
CREATE TABLE orders (
  id STRING,                                       -- an order sent twice with the same id is stored once
  customer STRING,
  amount DOUBLE,
  ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND     -- events may come up to 5 s out of order
) WITH ('connector' = 'penstock', 'key' = 'customer');

-- A stream for subscribers: `penstock tail large_orders`.
CREATE TABLE large_orders WITH ('connector' = 'penstock')
AS SELECT id, customer, amount, ts FROM orders WHERE amount >= 100;

-- A table that is updated while its minute is open and complete afterwards: GET /v1/data/orders_per_minute.
CREATE TABLE orders_per_minute (
  customer STRING,
  minute_start TIMESTAMP(3),
  orders BIGINT,
  amount DOUBLE,
  PRIMARY KEY (customer, minute_start) NOT ENFORCED
) WITH ('connector' = 'penstock', 'emit' = 'early');

INSERT INTO orders_per_minute
SELECT customer, window_start, COUNT(*), SUM(amount)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY customer, window_start, window_end;
"""

_ORDERS = """\
{"id":"o1","customer":"ada","amount":40.0,"ts":"2026-01-05T09:00:01Z"}
{"id":"o2","customer":"ben","amount":250.0,"ts":"2026-01-05T09:00:20Z"}
{"id":"o3","customer":"ada","amount":120.5,"ts":"2026-01-05T09:01:10Z"}
"""

_CASES = """\
# Cases for the app beside this file: `penstock test` runs them.
now: 2026-01-05T09:05:00
cases:
  - name: orders from 100 on are large
    steps:
      - send: orders
        rows:
          - {id: o1, customer: ada, amount: 99.99, ts: 2026-01-05T09:00:01}
          - {id: o2, customer: ben, amount: 100, ts: 2026-01-05T09:00:20}
      - expect: large_orders
        rows:
          - {id: o2, customer: ben}
"""

STARTER_FILES = {"app.sql": _APP, "orders.ndjson": _ORDERS, "app.test.yml": _CASES}
