"""The queries of Nexmark as files hold them: q0 to q22 without q6, q12 and q13. Needs nothing of Penstock.

q6 (an OVER window in number of rows over an aggregate that takes rows back) Flink itself refuses. What q12 gives
depends on the clock of the machine, and q13 looks rows up in a table of another system: neither has a result of its
own to compare.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SOURCES", "NexmarkQuery", "queries"]

#: Columns and watermark of the sources; their options belong to the system that runs them.
SOURCES = {
    "person": "id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING, "
    "`dateTime` TIMESTAMP(3), extra STRING, WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND",
    "auction": "id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT, "
    "`dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING, "
    "WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND",
    "bid": "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), "
    "extra STRING, WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND",
}

_FOLDER = Path(__file__).parent / "queries"
_FORM = re.compile(
    r"-- (?P<about>[^\n]+)\n"
    r"(?P<settings>(?:SET [^\n]+\n)*)"
    r"CREATE TABLE answers \((?P<columns>.+?)\s*\) WITH \(\{sink\}\);\n"
    r"INSERT INTO answers\s+(?P<select>.+);\n",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class NexmarkQuery:
    """One query. `settings`: SET statements; `columns`: those of `answers`, which the SELECT is written to."""

    name: str
    about: str
    settings: str
    columns: str
    key: tuple[str, ...]
    select: str

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that it reads."""
        return tuple(name for name in SOURCES if re.search(rf"\b(FROM|JOIN|TABLE) {name}\b", self.select))

    def text(self, *, sources: dict[str, str], sink: str) -> str:
        """Statements for a system: options of its sources by name, and of the sink."""
        tables = [f"CREATE TABLE {name} ({SOURCES[name]}) WITH ({sources[name]});\n" for name in self.sources]
        target = f"CREATE TABLE answers ({self.columns}) WITH ({sink});\n"
        return f"{self.settings}{''.join(tables)}{target}INSERT INTO answers {self.select};\n"


def queries() -> list[NexmarkQuery]:
    """All of them, by number."""
    found = [_read(path) for path in _FOLDER.glob("q*.sql")]
    return sorted(found, key=lambda query: int(query.name[1:]))


def _read(path: Path) -> NexmarkQuery:
    form = _FORM.fullmatch(path.read_text())
    if form is None:
        raise ValueError(f"{path.name}: not a comment, settings, CREATE TABLE answers and INSERT INTO answers")
    key = re.search(r"PRIMARY KEY \(([^)]+)\)", form["columns"])
    names = () if key is None else tuple(part.strip(" `") for part in key[1].split(","))
    return NexmarkQuery(path.stem, form["about"], form["settings"], form["columns"].strip(), names, form["select"])
