"""The steps of a case, from values of the file to what is to be done. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec

from penstock_app.cases.document import Fields, Items, NumberText, Scalar, Value, json_text, kind_of
from penstock_app.cases.model import (
    Advance,
    Cell,
    Complete,
    Expect,
    ExpectRejected,
    RejectedPattern,
    Restart,
    Row,
    Send,
    Step,
    Tolerance,
)
from penstock_app.cases.settings import CaseSettings
from penstock_app.cases.shape import Wrongs
from penstock_processor.logical.durations import duration_ms

__all__ = ["StepReader"]

_KEYS: Mapping[str, tuple[str, ...]] = {
    "send": ("send", "rows"),
    "advance": ("advance",),
    "complete": ("complete", "through"),
    "restart": ("restart",),
    "expect": ("expect", "rows", "changes", "ordered", "exact", "tolerance"),
    "expect_rejected": ("expect_rejected", "exact"),
}
_PATTERN_KEYS = ("stream", "code", "field", "statement", "event")
_TIME_REMEDY = "Write it as `2026-01-05T10:00:00`, in UTC."


class StepReader:
    """Reads steps one by one; what is wrong goes to `wrongs`."""

    def __init__(self, limits: CaseSettings, wrongs: Wrongs) -> None:
        self._limits = limits
        self._wrongs = wrongs

    def step(self, value: Value) -> Step:
        """One step; Skip if it is wrong."""
        listed = ", ".join(f"`{name}`" for name in _KEYS)
        if isinstance(value, Scalar) and value.value in ("complete", "restart"):
            return Restart(value.line) if value.value == "restart" else Complete(value.line, (), None)
        names = [str(key.value) for key, _ in value.entries] if isinstance(value, Fields) else []
        kinds = [name for name in names if name in _KEYS]
        if len(kinds) != 1:
            message = f"A step does two things: {' and '.join(kinds)}." if kinds else "This is no step."
            remedy = "Begin each with `- `." if kinds else f"A step has one of {listed}."
            raise self._wrongs.skip(value, message, remedy)
        kind = kinds[0]
        keys = self._wrongs.keys(value, f"The step `{kind}`", known=_KEYS[kind], needed=(kind,))
        readers: Mapping[str, Callable[[int, dict[str, Value]], Step]] = {
            "send": self._send,
            "advance": self._advance,
            "complete": self._complete,
            "restart": self._restart,
            "expect": self._expect,
            "expect_rejected": self._expect_rejected,
        }
        return readers[kind](value.line, keys)

    def _send(self, line: int, keys: dict[str, Value]) -> Send:
        stream = self._name(keys["send"], "send")
        if "rows" not in keys:
            raise self._wrongs.skip(keys["send"], "`send` has no rows.", "Write `rows:` below it, one a line.")
        rows = self._rows(keys["rows"], verbatim=True)
        if not rows:
            raise self._wrongs.skip(keys["rows"], "`send` has no rows.", "Write at least one.")
        return Send(line, stream, rows)

    def _advance(self, line: int, keys: dict[str, Value]) -> Advance:
        value = keys["advance"]
        found = value.value if isinstance(value, Scalar) else None
        is_text = isinstance(found, str) and not isinstance(found, NumberText)
        span_ms = duration_ms(str(found)) if is_text else None
        if not span_ms:
            remedy = "Write a number and its unit: `90 s`, `10 min`, `1 h`, `1 d`."
            raise self._wrongs.skip(value, "`advance` is a span of time longer than nothing.", remedy)
        return Advance(line, span_ms / 1000)

    def _complete(self, line: int, keys: dict[str, Value]) -> Complete:
        value = keys["complete"]
        if isinstance(value, Scalar) and value.value in (None, "all", True):
            streams: tuple[Scalar, ...] = ()
        elif isinstance(value, Items):
            streams = tuple(self._name(item, "complete") for item in value.items)
        else:
            streams = (self._name(value, "complete"),)
        through = keys.get("through")
        through_ms = None if through is None else self._wrongs.time_ms(through, "through", remedy=_TIME_REMEDY)
        return Complete(line, streams, through_ms)

    def _restart(self, line: int, keys: dict[str, Value]) -> Restart:
        value = keys["restart"]
        if not isinstance(value, Scalar) or value.value not in (None, True):
            raise self._wrongs.skip(value, f"`restart` takes nothing, found {kind_of(value)}.", "Write `- restart`.")
        return Restart(line)

    def _expect(self, line: int, keys: dict[str, Value]) -> Expect:
        relation = self._name(keys["expect"], "expect")
        if "rows" not in keys:
            remedy = "Write `rows:` below it; `rows: []` where nothing may come."
            raise self._wrongs.skip(keys["expect"], "`expect` has no rows.", remedy)
        rows = self._rows(keys["rows"], verbatim=False)
        changes = self._wrongs.flag(keys.get("changes"), "changes", default=False)
        ordered = self._wrongs.flag(keys.get("ordered"), "ordered", default=False)
        exact = self._wrongs.flag(keys.get("exact"), "exact", default=True)
        if ordered and not exact:
            remedy = "Leave out one of the two."
            raise self._wrongs.skip(keys["exact"], "`ordered: true` and `exact: false` contradict.", remedy)
        return Expect(line, relation, rows, changes, ordered, exact, self._tolerances(keys.get("tolerance")))

    def _expect_rejected(self, line: int, keys: dict[str, Value]) -> ExpectRejected:
        items = self._wrongs.items(
            keys["expect_rejected"], "expect_rejected", most=self._limits.rows_max, limit="test.rows_max"
        )
        patterns = []
        for item in items:
            with self._wrongs.collecting():
                patterns.append(self._pattern(item))
        return ExpectRejected(line, tuple(patterns), self._wrongs.flag(keys.get("exact"), "exact", default=True))

    def _pattern(self, value: Value) -> RejectedPattern:
        keys = self._wrongs.keys(value, "A rejected event", known=_PATTERN_KEYS, needed=())
        event = keys.pop("event", None)
        if event is not None and not isinstance(event, Fields):
            remedy = "Name fields that it has: `event: {id: o1}`."
            raise self._wrongs.skip(event, f"`event` is a mapping, found {kind_of(event)}.", remedy)
        if not keys and event is None:
            remedy = "Say `code`, and `field` or `event` where that tells more."
            raise self._wrongs.skip(value, "This says nothing about the rejected event.", remedy)
        where = {name: self._name(inner, name) for name, inner in keys.items()}
        return RejectedPattern(value.line, where, () if event is None else _cells(event))

    def _tolerances(self, value: Value | None) -> tuple[Tolerance, ...]:
        if value is None:
            return ()
        if isinstance(value, Fields):
            return tuple(Tolerance(key, self._within(inner)) for key, inner in value.entries)
        return (Tolerance(None, self._within(value)),)

    def _within(self, value: Value) -> float:
        found = value.value if isinstance(value, Scalar) else None
        within = float(found) if isinstance(found, NumberText) else -1.0
        if within < 0 or not math.isfinite(within):
            remedy = "Write how far numbers may be apart: `tolerance: 0.01`, or `tolerance: {column: 0.01}`."
            raise self._wrongs.skip(value, "`tolerance` is a number from 0.", remedy)
        return within

    def _name(self, value: Value, key: str) -> Scalar:
        self._wrongs.text(value, key)
        assert isinstance(value, Scalar)
        return value

    def _rows(self, value: Value, *, verbatim: bool) -> tuple[Row, ...]:
        """Rows written as a list of mappings, or as text: one JSON object a line.

        `verbatim`: lines of text go as they are, as whether they can be taken may be what is tested.
        """
        if isinstance(value, Scalar) and isinstance(value.value, str) and not isinstance(value.value, NumberText):
            rows = self._lines(value, verbatim=verbatim)
            if len(rows) > self._limits.rows_max:
                message = f"`rows` has {len(rows)} lines, {self._limits.rows_max} are allowed."
                raise self._wrongs.skip(value, message, "Divide it, or raise test.rows_max.")
            return rows
        rows_found = []
        for item in self._wrongs.items(value, "rows", most=self._limits.rows_max, limit="test.rows_max"):
            if not isinstance(item, Fields) or not item.entries:
                remedy = "Name its columns: `- {id: o1, amount: 40}`."
                self._wrongs.add(item, f"A row is a mapping with at least one column, found {kind_of(item)}.", remedy)
                continue
            rows_found.append(Row(item.line, item.column, json_text(item), _cells(item)))
        return tuple(rows_found)

    def _lines(self, value: Scalar, *, verbatim: bool) -> tuple[Row, ...]:
        rows = []
        for number, text in enumerate(str(value.value).split("\n")):
            if not text.strip():
                continue
            line, column = (value.line + 1 + number, 1) if value.literal else (value.line, value.column)
            cells = None if verbatim else self._json_cells(text, line=line, column=column)
            rows.append(Row(line, column, text.encode(), cells))
        return tuple(rows)

    def _json_cells(self, text: str, *, line: int, column: int) -> tuple[Cell, ...]:
        try:
            found = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, RecursionError) as error:
            remedy = 'Write one JSON object a line: {"id":"o1","amount":40}.'
            self._wrongs.add_at(line, column, f"The row is no JSON object: {error}.", remedy)
            return ()
        return tuple(Cell(name, line, column, bytes(raw), (line, column)) for name, raw in found.items())


def _cells(fields: Fields) -> tuple[Cell, ...]:
    return tuple(
        Cell(str(key.value), inner.line, inner.column, json_text(inner), (key.line, key.column))
        for key, inner in fields.entries
    )
