"""Rejected events of processing: which source line failed where, and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.model.batch import RejectedEvent
from penstock_processor.logical.identity import scans_of
from penstock_processor.logical.plan import AppPlan
from penstock_processor.operators.interface import RowProblem
from penstock_processor.runtime.decode import Decoded
from penstock_processor.runtime.decode_exact import BadRow
from penstock_processor.runtime.inputs import Lines, PartitionInput
from penstock_processor.settings import ProcessorSettings

__all__ = ["Rejections", "ReplayItem", "replay_id"]

Sources = Mapping[tuple[str, int], tuple[Lines, Decoded]]


@dataclass(frozen=True, slots=True)
class ReplayItem:
    """A rejected event to feed to its statement again, as `raw` (one line); `new_id` is its id if it fails again."""

    event: RejectedEvent
    raw: bytes
    new_id: str


class Rejections:
    """Makes rejected events of one app; their text and detail are capped. The log gives the ids."""

    def __init__(self, plan: AppPlan, settings: ProcessorSettings) -> None:
        self._app = plan.name
        read = {s.label: {scan.relation for scan in scans_of(s.undivided)} for s in plan.statements}
        self._read_alone = {label: next(iter(names)) for label, names in read.items() if len(names) == 1}
        self._raw_max_bytes = settings.raw_max_bytes
        self._detail_max_chars = settings.detail_max_chars

    def undecodable(
        self, taken: PartitionInput, lines: Lines, *, bad: Sequence[BadRow], now_ms: int
    ) -> list[RejectedEvent]:
        """Events that admission took and that no longer fit the stream's columns (they were redeclared)."""
        if not bad:
            return []
        texts = lines.text.split(b"\n")
        return [
            self._event(
                RowProblem(taken.relation, taken.partition, row.row, "", row.code, row.detail),
                raw=texts[row.row],
                position=(taken.partition, lines.offset(row.row)),
                now_ms=now_ms,
            )
            for row in bad
        ]

    def of_rows(self, problems: Sequence[RowProblem], sources: Sources, *, now_ms: int) -> list[RejectedEvent]:
        """Rows that a statement could not take; one event a row and statement, as a replay feeds the whole row."""
        events: list[RejectedEvent] = []
        texts: dict[tuple[str, int], list[bytes]] = {}
        seen: set[tuple[str, int, int, str]] = set()
        for problem in problems:
            place = (problem.relation or "", problem.partition or 0)
            source = sources.get(place)
            if problem.row is None or source is None:
                raw = (problem.values or "").encode()
                events.append(self._event(problem, raw=raw, position=None, now_ms=now_ms))
                continue
            mark = (*place, problem.row, problem.statement)
            if mark in seen:
                continue
            seen.add(mark)
            lines, decoded = source
            if place not in texts:
                texts[place] = lines.text.split(b"\n")
            line = decoded.line_of(problem.row)
            position = (place[1], lines.offset(line))
            events.append(self._event(problem, raw=texts[place][line], position=position, now_ms=now_ms))
        return events

    def of_replay(
        self, item: ReplayItem, failed: Sequence[tuple[str, str, str]], *, now_ms: int
    ) -> list[RejectedEvent]:
        """The same event again, per (statement, code, detail) that failed, under `new_id`."""
        stream, position = item.event.stream, item.event.position
        return [
            self._event(
                RowProblem(stream, None, None, statement, code, detail),
                raw=item.raw,
                position=position,
                now_ms=now_ms,
                id_=item.new_id if i == 0 else f"{item.new_id}.{i}",
            )
            for i, (statement, code, detail) in enumerate(failed)
        ]

    def _event(
        self, problem: RowProblem, *, raw: bytes, position: tuple[int, int] | None, now_ms: int, id_: str = ""
    ) -> RejectedEvent:
        return RejectedEvent(
            id=id_,
            at_ms=now_ms,
            stream=problem.relation or self._read_alone.get(problem.statement, ""),
            app=self._app,
            statement=problem.statement,
            code=problem.code,
            detail=problem.detail[: self._detail_max_chars],
            raw=raw[: self._raw_max_bytes],
            position=position,
        )


def replay_id(event_id: str) -> str:
    """`<id>#r1` for the first replay of an event, `#r2` for the replay of that one, `#r2.1` for `#r1.1`, ..."""
    base, mark, count = event_id.partition("#r")
    digits, dot, statement = count.partition(".")
    return f"{base}#r{int(digits) + 1 if mark and digits.isdigit() else 1}{dot}{statement}"
