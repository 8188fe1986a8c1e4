"""What tests of `penstock test` hold in hand: an app, case files beside it, and what a run says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from penstock.ports.clock import SystemClock
from penstock_app.cases.discover import find_case_files
from penstock_app.cases.report import CaseResult
from penstock_app.cases.run import Cut
from penstock_app.cases.session import Choice, Session
from penstock_app.cases.settings import CaseSettings

ORDERS = """CREATE TABLE orders (
  id STRING, customer STRING, amount DOUBLE, price DECIMAL(8, 2), ts TIMESTAMP(3), doubled AS amount * 2,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'penstock', 'key' = 'customer');
CREATE TABLE customers (id STRING, name STRING) WITH ('connector' = 'penstock');
CREATE TABLE `large` WITH ('connector' = 'penstock')
AS SELECT id, customer, amount, price, ts FROM orders WHERE amount >= 100;
CREATE TABLE shares WITH ('connector' = 'penstock') AS SELECT id, 100 / CAST(amount AS INT) AS share FROM orders;
CREATE TABLE per_minute (
  customer STRING, minute_start TIMESTAMP(3), orders BIGINT, amount DOUBLE,
  PRIMARY KEY (customer, minute_start) NOT ENFORCED
) WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO per_minute SELECT customer, window_start, COUNT(*), SUM(amount)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
WHERE customer IS NOT NULL GROUP BY customer, window_start, window_end;
"""


@dataclass(frozen=True)
class Tried:
    """Results of the cases, and `line:column: message | remedy` of what is wrong with the files."""

    results: list[CaseResult]
    wrong: list[str]

    @property
    def said(self) -> list[str]:
        """Titles and details of all failures, one a line, without the path."""
        return [
            line
            for result in self.results
            for failure in result.failures
            for line in (f"{failure.line}: {failure.title}", *failure.details)
        ]


async def try_cases(
    folder: Path, *, keyword: str = "", seed: int | None = None, limits: CaseSettings | None = None
) -> Tried:
    """Run the case files of a folder in this process."""
    settings = limits or CaseSettings()
    session = Session(settings, Choice(keyword, None if seed is None else Cut(seed)), clock=SystemClock())
    for file in find_case_files([folder], settings):
        session.load(file)
    results = await session.run(lambda _: None)
    return Tried(results, [f"{f.line}:{f.column}: {f.message} | {f.remedy}" for _, f in session.wrong])


async def try_steps(folder: Path, steps: str, *, sql: str = ORDERS, case: str = "", **options: object) -> Tried:
    """Run one case with these steps, each beginning with `- ` in the first column; `case`: further lines of its."""
    (folder / "app.sql").write_text(sql)
    indented = "".join(f"      {line}\n" for line in steps.strip("\n").split("\n"))
    head = f"now: 2026-01-05T10:00:00\ncases:\n  - name: it\n{case}    steps:\n"
    (folder / "app.test.yml").write_text(head + indented)
    return await try_cases(folder, **options)  # type: ignore[arg-type]  # as given


#: Lines before the first step of `try_steps`.
STEPS_FROM = 4
