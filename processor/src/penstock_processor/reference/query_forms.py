"""Every form of query with a minimal example. What is said of a form is asked of the planner. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from penstock_processor.logical.changes import updating
from penstock_processor.logical.plan_app import check_app, plan_app

__all__ = ["PRELUDE", "QUERY_FORMS", "FormFacts", "QueryForm", "app_of", "facts_of"]

#: The tables that the examples read.
PRELUDE = """\
SET 'table.exec.state.ttl' = '1 d';
CREATE TABLE orders (
  id STRING, customer STRING, amount DOUBLE, items ARRAY<STRING>, ts TIMESTAMP(3), p AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'penstock', 'key' = 'customer');
CREATE TABLE payments (
  order_id STRING, paid DOUBLE, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'penstock', 'key' = 'order_id');
CREATE TABLE customers (
  customer STRING, country STRING, since TIMESTAMP(3), WATERMARK FOR since AS since,
  PRIMARY KEY (customer) NOT ENFORCED) WITH ('connector' = 'penstock');
CREATE TABLE accounts (customer STRING, credit DOUBLE) WITH (
  'connector' = 'jdbc', 'url' = 'jdbc:sqlite:/srv/accounts.db', 'table-name' = 'accounts');
"""


@dataclass(frozen=True, slots=True)
class QueryForm:
    """One form. `key`: primary key of the table it is written to, where it needs one; `options`: further options of
    that table. `in_flink`: whether Flink 2.3 runs it in streaming mode.
    """

    name: str
    query: str
    key: str = ""
    options: str = ""
    in_flink: bool = True


@dataclass(frozen=True, slots=True)
class FormFacts:
    """What the planner says of a form. `parallel`: whether several tasks may share it."""

    changes: bool
    parallel: bool


_TUMBLE = "TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' HOUR))"
_PER_HOUR = "customer, window_start, window_end"

QUERY_FORMS: tuple[QueryForm, ...] = (
    QueryForm("filter and projection", "SELECT id, amount * 1.2 AS gross FROM orders WHERE amount > 100"),
    QueryForm("sub-query, WITH, view",
              "WITH big AS (SELECT * FROM orders WHERE amount > 100) SELECT id FROM big"),
    QueryForm("UNION ALL", "SELECT id, ts FROM orders UNION ALL SELECT order_id, ts FROM payments"),
    QueryForm("a row for each element", "SELECT o.id, i.item FROM orders AS o CROSS JOIN UNNEST(o.items) AS i(item)"),
    QueryForm("tumbling windows",
              f"SELECT customer, window_start, COUNT(*) AS n FROM {_TUMBLE} GROUP BY {_PER_HOUR}"),
    QueryForm("hopping windows", "SELECT customer, window_end, COUNT(*) AS n FROM TABLE(HOP(TABLE orders, "
              f"DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '1' HOUR)) GROUP BY {_PER_HOUR}"),
    QueryForm("cumulating windows", "SELECT customer, window_end, COUNT(*) AS n FROM TABLE(CUMULATE(TABLE orders, "
              f"DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '1' DAY)) GROUP BY {_PER_HOUR}"),
    QueryForm("sessions", "SELECT customer, window_start, COUNT(*) AS n FROM TABLE(SESSION(TABLE orders PARTITION BY "
              f"customer, DESCRIPTOR(ts), INTERVAL '30' MINUTE)) GROUP BY {_PER_HOUR}"),
    QueryForm("windows by processing time", "SELECT customer, window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE "
              f"orders, DESCRIPTOR(p), INTERVAL '1' HOUR)) GROUP BY {_PER_HOUR}"),
    QueryForm("rows with their windows", f"SELECT id, window_start FROM {_TUMBLE}"),
    QueryForm("several groupings of a window", f"SELECT customer, window_start, COUNT(*) AS n FROM {_TUMBLE} "
              "GROUP BY window_start, window_end, ROLLUP (customer)"),
    QueryForm("windows of windows", "SELECT s, MAX(n) AS most FROM (SELECT window_start AS s, window_end AS e, "
              f"COUNT(*) AS n FROM {_TUMBLE} GROUP BY {_PER_HOUR}) GROUP BY s, e"),
    QueryForm("early results of windows", f"SELECT customer, window_start, COUNT(*) AS n FROM {_TUMBLE} "
              f"GROUP BY {_PER_HOUR}", key="customer, window_start", options="'emit' = 'early'", in_flink=False),
    QueryForm("late updates of windows", f"SELECT customer, window_start, COUNT(*) AS n FROM {_TUMBLE} "
              f"GROUP BY {_PER_HOUR}", key="customer, window_start",
              options="'late' = 'update', 'lateness' = '1 h'", in_flink=False),
    QueryForm("approximate aggregates", f"SELECT customer, window_start, APPROX_QUANTILE(amount, 0.95) AS p95 "
              f"FROM {_TUMBLE} GROUP BY {_PER_HOUR}", in_flink=False),
    QueryForm("best rows of each window",
              "SELECT id, window_start, place FROM (SELECT *, ROW_NUMBER() OVER (PARTITION "
              f"BY window_start, window_end ORDER BY amount DESC) AS place FROM {_TUMBLE}) WHERE place <= 3"),
    QueryForm("OVER, frames of rows", "SELECT id, SUM(amount) OVER (PARTITION BY customer ORDER BY ts ROWS BETWEEN 9 "
              "PRECEDING AND CURRENT ROW) AS last10 FROM orders"),
    QueryForm("OVER, frames of time", "SELECT id, SUM(amount) OVER (PARTITION BY customer ORDER BY ts RANGE BETWEEN "
              "INTERVAL '1' HOUR PRECEDING AND CURRENT ROW) AS spent FROM orders"),
    QueryForm("OVER, distinct values", "SELECT id, COUNT(DISTINCT amount) OVER (PARTITION BY customer "
              "ORDER BY ts) AS amounts FROM orders"),
    QueryForm("OVER by processing time", "SELECT id, SUM(amount) OVER (PARTITION BY customer ORDER BY p) AS so_far "
              "FROM orders"),
    QueryForm("interval join", "SELECT o.id, p.paid FROM orders AS o JOIN payments AS p ON o.id = p.order_id AND "
              "p.ts BETWEEN o.ts AND o.ts + INTERVAL '1' HOUR"),
    QueryForm("window join", f"SELECT o.id, p.paid FROM (SELECT * FROM {_TUMBLE}) AS o JOIN (SELECT * FROM TABLE("
              "TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' HOUR))) AS p ON o.id = p.order_id AND "
              "o.window_start = p.window_start AND o.window_end = p.window_end"),
    QueryForm("temporal join",
              "SELECT o.id, c.country FROM orders AS o JOIN customers FOR SYSTEM_TIME AS OF o.ts AS c "
              "ON o.customer = c.customer"),
    QueryForm("lookup join",
              "SELECT o.id, a.credit FROM orders AS o LEFT JOIN accounts FOR SYSTEM_TIME AS OF o.p AS a "
              "ON o.customer = a.customer"),
    QueryForm("patterns of rows", "SELECT * FROM orders MATCH_RECOGNIZE (PARTITION BY customer ORDER BY ts MEASURES "
              "LAST(R.amount) AS amount PATTERN (A R{3}) WITHIN INTERVAL '1' HOUR DEFINE R AS R.amount > "
              "LAST(amount, 1))"),
    QueryForm("GROUP BY without a window", "SELECT customer, SUM(amount) AS total FROM orders GROUP BY customer",
              key="customer"),
    QueryForm("DISTINCT", "SELECT DISTINCT customer FROM orders"),
    QueryForm("UNION", "SELECT id FROM orders UNION SELECT order_id FROM payments"),
    QueryForm("several groupings",
              "SELECT GROUPING_ID(customer) AS g, CASE WHEN GROUPING(customer) = 1 THEN 'all' ELSE "
              "customer END AS customer, COUNT(*) AS n FROM orders GROUP BY ROLLUP (customer)", key="g, customer"),
    QueryForm("best rows of each group", "SELECT customer, place, id FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY "
              "customer ORDER BY amount DESC) AS place FROM orders) WHERE place <= 3", key="customer, place"),
    QueryForm("last row of each key", "SELECT customer, id FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY customer "
              "ORDER BY ts DESC) AS place FROM orders) WHERE place = 1", key="customer"),
    QueryForm("inner join without bounds",
              "SELECT o.id, p.paid FROM orders AS o JOIN payments AS p ON o.id = p.order_id"),
    QueryForm("outer join without bounds",
              "SELECT o.customer, COUNT(p.paid) AS paid FROM orders AS o LEFT JOIN payments "
              "AS p ON o.id = p.order_id GROUP BY o.customer", key="customer"),
    QueryForm("rows with a match: IN, EXISTS",
              "SELECT id, amount FROM orders WHERE id IN (SELECT order_id FROM payments)"),
    QueryForm("rows without one: NOT EXISTS",
              "SELECT customer, COUNT(*) AS unpaid FROM orders AS o WHERE NOT EXISTS ("
              "SELECT * FROM payments AS p WHERE p.order_id = o.id) GROUP BY customer", key="customer"),
)  # fmt: skip


def app_of(form: QueryForm, *, parallelism: int = 1) -> str:
    """The text of an app whose table `answer` is filled by the form."""
    shared = f"SET 'parallelism.default' = '{parallelism}';\n" if parallelism > 1 else ""
    columns = f" (PRIMARY KEY ({form.key}) NOT ENFORCED)" if form.key else ""
    options = f", {form.options}" if form.options else ""
    return (
        f"{shared}{PRELUDE}CREATE TABLE answer{columns} WITH ('connector' = 'penstock'{options})\nAS {form.query};\n"
    )


def facts_of(form: QueryForm) -> FormFacts:
    """What the planner says of the form; SqlErrors if it is none."""
    (statement,) = plan_app("form", app_of(form)).statements
    changes = updating(statement.plan) or "emit" in form.options or "late" in form.options
    return FormFacts(changes, parallel=not check_app("form", app_of(form, parallelism=2)))
