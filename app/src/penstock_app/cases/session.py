"""One run of `penstock test`: files are read and held against their apps, then their cases run in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.errors import PenstockError, SqlErrors
from penstock.ports.clock import Clock
from penstock_app.appfiles import AppFile, find_app
from penstock_app.cases.bind import BoundCase, bind_case
from penstock_app.cases.discover import FoundFile
from penstock_app.cases.document import Finding, WrongFile
from penstock_app.cases.model import Case, CaseFile
from penstock_app.cases.read import read_cases
from penstock_app.cases.report import CaseResult, Failure
from penstock_app.cases.run import Cut, run_case
from penstock_app.cases.settings import CaseSettings
from penstock_app.cases.shape import Wrongs
from penstock_processor.function_files import FunctionFiles
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.plan_app import plan_app

__all__ = ["Choice", "Session"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run: cases whose name has `keyword` in it; with `cut` each a second time with its inputs divided."""

    keyword: str = ""
    cut: Cut | None = None


class Session:
    """`load` every file, then `run`. `wrong` has the findings of files that cannot be run."""

    def __init__(self, settings: CaseSettings, choice: Choice, *, clock: Clock) -> None:
        self.wrong: list[tuple[Path, Finding]] = []
        self._settings = settings
        self._choice = choice
        self._clock = clock
        self._apps: dict[Path, tuple[AppFile, AppPlan | SqlErrors]] = {}
        self._ready: list[tuple[Path, Case, BoundCase | CaseResult]] = []

    @property
    def count(self) -> int:
        """Cases that `run` will run."""
        return len(self._ready)

    def load(self, file: FoundFile) -> None:
        """Read a file and hold its cases against their apps."""
        wrongs = Wrongs()
        ready: list[tuple[Path, Case, BoundCase | CaseResult]] = []
        with wrongs.collecting():
            text = self._text(file.path)
            cases = read_cases(file.path, text, app=file.app, limits=self._settings, wrongs=wrongs)
            ready = self._bound(cases, wrongs)
        try:
            wrongs.raise_if_any()
            self._ready += ready
        except WrongFile as wrong:
            self.wrong += [(file.path, finding) for finding in wrong.findings]

    async def run(self, on_result: Callable[[CaseResult], None]) -> list[CaseResult]:
        """Run what was loaded, in order; `on_result` is told of each case when it has ended."""
        results = []
        for path, case, bound in self._ready:
            result = bound if isinstance(bound, CaseResult) else await self._run(path, case, bound)
            results.append(result)
            on_result(result)
        return results

    async def _run(self, path: Path, case: Case, bound: BoundCase) -> CaseResult:
        started_s = self._clock.monotonic_s()
        failures: Sequence[Failure] = await run_case(bound, self._settings)
        cut = self._choice.cut
        if not failures and cut is not None and case.cut:
            note = f"with its inputs cut at random (--cut --seed {cut.seed}): "
            again = await run_case(bound, self._settings, cut=cut)
            failures = [Failure(failure.line, note + failure.title, failure.details) for failure in again]
        return CaseResult(path, case.name, case.line, self._clock.monotonic_s() - started_s, tuple(failures))

    def _bound(self, file: CaseFile, wrongs: Wrongs) -> list[tuple[Path, Case, BoundCase | CaseResult]]:
        """The cases that were chosen; what does not fit its app is noted, of the others as well."""
        found: list[tuple[Path, Case, BoundCase | CaseResult]] = []
        for case in file.cases:
            with wrongs.collecting():
                app, plan = self._app(case)
                bound: BoundCase | CaseResult
                if isinstance(plan, SqlErrors):
                    bound = CaseResult(file.path, case.name, case.line, 0.0, (_refused(app, plan),))
                else:
                    bound = bind_case(case, plan, wrongs)
                if self._choice.keyword.lower() in case.name.lower():
                    found.append((file.path, case, bound))
        return found

    def _app(self, case: Case) -> tuple[AppFile, AppPlan | SqlErrors]:
        """The app of a case, planned once."""
        if case.app not in self._apps:
            try:
                app = find_app(case.app)
                sql = app.read()
            except PenstockError as error:
                raise WrongFile([_no_app(case, error)]) from None
            try:
                self._apps[case.app] = app, plan_app(app.name, sql, functions=FunctionFiles([app.path.parent]))
            except SqlErrors as errors:
                self._apps[case.app] = app, errors
        return self._apps[case.app]

    def _text(self, path: Path) -> str:
        try:
            size_bytes = path.stat().st_size
            if size_bytes > self._settings.file_max_bytes:
                message = f"The file has {size_bytes} bytes, {self._settings.file_max_bytes} are allowed."
                raise WrongFile([Finding(1, 1, message, "Divide it, or raise test.file_max_bytes.")])
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            line = path.read_bytes()[: error.start].count(b"\n") + 1
            raise WrongFile([Finding(line, 1, "The file is not UTF-8.", "Save it as UTF-8.")]) from None


def _no_app(case: Case, error: PenstockError) -> Finding:
    remedy = "Put the file beside the app, or write `app:` with the path from here to its .sql file."
    return Finding(case.line, case.column, f"The app of case '{case.name}': {error.detail}.", remedy)


def _refused(app: AppFile, errors: SqlErrors) -> Failure:
    details: list[str] = []
    for error in errors.errors:
        details.append(f"{app.path}:{error.line}:{error.column}: {error.message} ({error.code})")
        details.append(f"    {error.remedy}")
    return Failure(0, "the app cannot run", tuple(details))
