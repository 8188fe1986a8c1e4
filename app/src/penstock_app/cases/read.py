"""From the text of a case file to its cases: names of keys, kinds of values, times and durations. Pure.

Whether streams, columns and values fit the app is for `bind` to say, which knows it.
"""

from __future__ import annotations

from pathlib import Path

from penstock_app.cases.document import (
    Value,
    read_document,
)
from penstock_app.cases.model import Case, CaseFile, Step
from penstock_app.cases.read_steps import StepReader
from penstock_app.cases.settings import CaseSettings
from penstock_app.cases.shape import Wrongs

__all__ = ["read_cases"]

_FILE_KEYS = ("app", "now", "cases")
_CASE_KEYS = ("name", "app", "now", "cut", "steps")
_NOW_REMEDY = "Write `now: 2026-01-05T09:00:00`: where the clock stands when a case begins, in UTC."


def read_cases(path: Path, text: str, *, app: Path, limits: CaseSettings, wrongs: Wrongs) -> CaseFile:
    """The cases of a file's text that can be read; `app` is tested where the file names none."""
    reader = _CaseReader(path.parent, app, limits, wrongs)
    cases: tuple[Case, ...] = ()
    with wrongs.collecting():
        cases = reader.file(read_document(text, limits))
    return CaseFile(path, cases)


class _CaseReader:
    """Reads one file; paths in it count from `folder`."""

    def __init__(self, folder: Path, app: Path, limits: CaseSettings, wrongs: Wrongs) -> None:
        self._folder = folder
        self._app = app
        self._limits = limits
        self._wrongs = wrongs
        self._steps = StepReader(limits, wrongs)

    def file(self, value: Value) -> tuple[Case, ...]:
        """All of its cases that can be read."""
        keys = self._wrongs.keys(value, "A case file", known=_FILE_KEYS, needed=("cases",))
        app = self._path(keys.get("app"), self._app)
        now_ms = self._now(keys.get("now"))
        items = self._wrongs.items(keys["cases"], "cases", most=self._limits.cases_max, limit="test.cases_max")
        if not items:
            self._wrongs.add(
                keys["cases"], "There are no cases.", "Begin the first with `- name: what shall be true`."
            )
        cases: list[Case] = []
        names: dict[str, int] = {}
        for item in items:
            with self._wrongs.collecting():
                case = self._case(item, app=app, now_ms=now_ms)
                if case.name in names:
                    message = f"Another case, in line {names[case.name]}, has the same name."
                    self._wrongs.add(item, message, "Give each case a name of its own.")
                names.setdefault(case.name, case.line)
                cases.append(case)
        return tuple(cases)

    def _case(self, value: Value, *, app: Path, now_ms: int | None) -> Case:
        keys = self._wrongs.keys(value, "A case", known=_CASE_KEYS, needed=("name", "steps"))
        name = self._wrongs.text(keys["name"], "name")
        own_now_ms = self._now(keys.get("now")) if "now" in keys else now_ms
        if own_now_ms is None:
            self._wrongs.add(value, "Neither the case nor the file says `now`.", _NOW_REMEDY)
        items = self._wrongs.items(keys["steps"], "steps", most=self._limits.steps_max, limit="test.steps_max")
        if not items:
            self._wrongs.add(keys["steps"], "The case has no steps.", "Write `- send: ...` and `- expect: ...`.")
        steps: list[Step] = []
        for item in items:
            with self._wrongs.collecting():
                steps.append(self._steps.step(item))
        cut = self._wrongs.flag(keys.get("cut"), "cut", default=True)
        return Case(
            name, value.line, value.column, self._path(keys.get("app"), app), own_now_ms or 0, tuple(steps), cut
        )

    def _path(self, value: Value | None, default: Path) -> Path:
        return default if value is None else self._folder / self._wrongs.text(value, "app")

    def _now(self, value: Value | None) -> int | None:
        return None if value is None else self._wrongs.time_ms(value, "now", remedy=_NOW_REMEDY)
