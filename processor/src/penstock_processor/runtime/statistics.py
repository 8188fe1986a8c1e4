"""What an app has done since it was started here: counters for `/statistics` and the metrics beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.codecs.json_values import write_timestamp
from penstock_processor.metrics import CYCLE_ROWS, CYCLE_SECONDS, ROWS_IN, ROWS_OUT, ROWS_REJECTED, STATE_ROWS
from penstock_processor.operators.interface import RuleHits
from penstock_processor.rules.metrics import RULE_HITS
from penstock_processor.runtime.app_worker import CycleCounts

__all__ = ["AppStatistics"]

_LATE = "late"


@dataclass(slots=True)
class _Source:
    rows_in: int = 0
    watermarks_ms: dict[str, int] = field(default_factory=dict)  # by task

    @property
    def watermark_ms(self) -> int | None:
        return min(self.watermarks_ms.values(), default=None)


@dataclass(slots=True)
class _Statement:
    rows_out: int = 0
    rejected: int = 0
    late: int = 0


@dataclass(slots=True)
class AppStatistics:
    """Counters of committed cycles of the tasks in this process. Survives restores of the app, not of the process."""

    app: str
    cycles: int = 0
    last_cycle_s: float = 0.0
    busy_s: float = 0.0
    sources: dict[str, _Source] = field(default_factory=dict)
    statements: dict[str, _Statement] = field(default_factory=dict)
    state_rows: dict[str, Mapping[str, int]] = field(default_factory=dict)  # by task
    rule_hits: dict[str, RuleHits] | None = None  # of rules, as of the last commit; None: not restored here yet

    def note_cycle(self, counts: CycleCounts, *, seconds: float) -> None:
        """A cycle was committed."""
        self.cycles += 1
        self.last_cycle_s = seconds
        self.busy_s += seconds
        CYCLE_SECONDS.labels(self.app).observe(seconds)
        CYCLE_ROWS.labels(self.app).observe(sum(counts.rows_in.values()))
        for name, rows in counts.rows_in.items():
            self.sources.setdefault(name, _Source()).rows_in += rows
            ROWS_IN.labels(self.app, name).inc(rows)
        for name, rows in counts.rows_out.items():
            self.statements.setdefault(name, _Statement()).rows_out += rows
            ROWS_OUT.labels(self.app, name).inc(rows)
        for (name, code), rows in counts.rejected.items():
            statement = self.statements.setdefault(name, _Statement())
            if code == _LATE:
                statement.late += rows
            else:
                statement.rejected += rows
            ROWS_REJECTED.labels(self.app, code).inc(rows)
        if counts.hits is not None:
            self.rule_hits = {} if self.rule_hits is None else self.rule_hits
            self.rule_hits.update(counts.hits.by_rule)
            for severity, hits in counts.hits.by_severity.items():
                RULE_HITS.labels(severity).inc(hits)

    def note_restored(self, hits: Mapping[str, RuleHits]) -> None:
        """What the log says of hits, at the begin of a term."""
        self.rule_hits = dict(hits)

    @property
    def state(self) -> dict[str, int]:
        """Rows of state per operator."""
        found: dict[str, int] = {}
        for sizes in self.state_rows.values():
            for operator, rows in sizes.items():
                found[operator] = found.get(operator, 0) + rows
        return found

    def note_sources(self, task: str, watermarks: Mapping[str, int]) -> None:
        """Up to where the sources are said to be complete, as far as the task reads them."""
        for name, ms in watermarks.items():
            self.sources.setdefault(name, _Source()).watermarks_ms[task] = ms

    def note_state(self, task: str, sizes: Mapping[str, int]) -> None:
        """Rows of state of a task's operators."""
        self.state_rows[task] = dict(sizes)
        for operator, rows in self.state.items():
            STATE_ROWS.labels(self.app, operator).set(rows)

    def as_json(self, lag_events: Mapping[str, int]) -> dict[str, object]:
        """The reply of `/v1/apps/{app}/statistics`; `lag_events` per source, up to what is committed."""
        for name in lag_events:
            self.sources.setdefault(name, _Source())
        return {
            "cycles": self.cycles,
            "cycle_ms": {
                "last": round(self.last_cycle_s * 1000, 3),
                "mean": round(self.busy_s * 1000 / self.cycles, 3) if self.cycles else None,
            },
            "sources": {
                name: {
                    "rows": source.rows_in,
                    "lag_events": lag_events.get(name, 0),
                    "watermark": None if source.watermark_ms is None else write_timestamp(source.watermark_ms),
                }
                for name, source in sorted(self.sources.items())
            },
            "statements": {
                name: {"rows_out": s.rows_out, "rejected": s.rejected, "late": s.late}
                for name, s in sorted(self.statements.items())
            },
            "state_rows": self.state,
        }
