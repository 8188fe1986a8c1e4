"""What a run says: failures with what was expected and what came, for people and as JUnit XML. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree

import msgspec

from penstock.model.batch import RejectedEvent
from penstock_app.cases.compare import Difference, GotRow, Wanted
from penstock_app.cases.document import Finding
from penstock_app.cases.model import RejectedPattern
from penstock_app.cases.settings import CaseSettings

__all__ = ["CaseResult", "Failure", "junit_xml", "lines_of", "not_as_expected", "not_rejected_as_expected"]

T = TypeVar("T")
_SHOWN_CHARS = 400
#: What XML 1.0 cannot hold (section 2.2).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Failure:
    """What is not as expected: the line of the step (0: that of the case), a title, and details below it."""

    line: int
    title: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of a case."""

    path: Path
    name: str
    line: int
    seconds: float
    failures: tuple[Failure, ...] = ()


def not_as_expected(line: int, title: str, difference: Difference, settings: CaseSettings) -> Failure:
    """A difference of rows, each with the line of the file that expected it."""
    details: list[str] = []
    if difference.disordered is not None:
        row, other = difference.disordered
        there = _object(other.texts, row.columns)
        details.append(f"order     line {row.line}: expected {_wanted(row.columns)}, in its place {there}")
    for row, other, columns in _first(difference.differing, settings, details):
        for name in columns:
            expected, got = _text(row.columns[name].json), _text(other.texts[name])
            details.append(f"differs   line {row.line}: {name} expected {expected}, got {got}")
        same = {name: wanted.json for name, wanted in row.columns.items() if name not in columns}
        details.append(f"          of {_object(same, same)}")
    for missed in _first(difference.missing, settings, details):
        details.append(f"missing   line {missed.line}: {_wanted(missed.columns)}")
    for extra in _first(difference.extra, settings, details):
        details.append(f"extra     {_got(extra, difference.named)}")
    return Failure(line, title, tuple(details))


def not_rejected_as_expected(
    line: int,
    title: str,
    missing: Sequence[RejectedPattern],
    extra: Sequence[RejectedEvent],
    settings: CaseSettings,
) -> Failure:
    """A difference of rejected events."""
    details: list[str] = []
    for pattern in _first(missing, settings, details):
        said = [f"{name} {value.value}" for name, value in pattern.where.items()]
        if pattern.event:
            said.append(f"event {_object({cell.name: cell.json for cell in pattern.event})}")
        details.append(f"missing   line {pattern.line}: {', '.join(said)}")
    for event in _first(extra, settings, details):
        where = event.statement or "admission"
        details.append(f"rejected  {event.code} by {where} of {event.stream}: {_shortened(event.detail)}")
        details.append(f"          {_text(event.raw)}")
    return Failure(line, title, tuple(details))


def lines_of(result: CaseResult) -> list[str]:
    """The line of a case, and its failures below it."""
    place = f"{result.path}:{result.line}"
    lines = [f"{'FAIL' if result.failures else 'ok  '}  {place}  {result.name}"]
    for failure in result.failures:
        lines.append(f"      {result.path}:{failure.line or result.line}: {failure.title}")
        lines += [f"        {detail}" for detail in failure.details]
    return lines


def junit_xml(results: Sequence[CaseResult], wrong: Sequence[tuple[Path, Finding]] = ()) -> bytes:
    """All results in the form that CI servers read: a suite for each file, a test case for each case.

    A wrong file is a suite whose one test case has the findings as errors.
    """
    root = ElementTree.Element("testsuites")
    for path in dict.fromkeys(path for path, _ in wrong):
        suite = ElementTree.SubElement(root, "testsuite", _counts((), errors=1), name=_clean(str(path)))
        case = ElementTree.SubElement(suite, "testcase", classname=_clean(str(path)), name="the file", time="0.000")
        for found in (finding for other, finding in wrong if other == path):
            message = f"{path}:{found.line}:{found.column}: {found.message}"
            ElementTree.SubElement(case, "error", message=_clean(message)).text = _clean(found.remedy)
    for path in dict.fromkeys(result.path for result in results):
        own = [result for result in results if result.path == path]
        suite = ElementTree.SubElement(root, "testsuite", _counts(own), name=_clean(str(path)))
        for result in own:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=_clean(str(path)),
                name=_clean(result.name),
                file=_clean(str(path)),
                line=str(result.line),
                time=f"{result.seconds:.3f}",
            )
            for failure in result.failures:
                place = f"{path}:{failure.line or result.line}"
                element = ElementTree.SubElement(case, "failure", message=_clean(f"{place}: {failure.title}"))
                element.text = _clean("\n".join(failure.details))
    for name, value in _counts(results, errors=len({path for path, _ in wrong})).items():
        root.set(name, value)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _counts(results: Sequence[CaseResult], *, errors: int = 0) -> dict[str, str]:
    failed = sum(1 for result in results if result.failures)
    seconds = sum(result.seconds for result in results)
    counts = {"tests": len(results) + errors, "failures": failed, "errors": errors}
    return {name: str(count) for name, count in counts.items()} | {"time": f"{seconds:.3f}"}


def _first(found: Sequence[T], settings: CaseSettings, details: list[str]) -> Iterable[T]:
    """Those that are shown; how many there are beyond them goes to the details afterwards."""
    yield from found[: settings.shown_rows_max]
    more = len(found) - settings.shown_rows_max
    if more > 0:
        details.append(f"          and {more} more")


def _wanted(columns: Mapping[str, Wanted]) -> str:
    return _object({name: wanted.json for name, wanted in columns.items()})


def _got(row: GotRow, named: Sequence[str]) -> str:
    return _object(row.texts, named or row.texts)


def _object(texts: Mapping[str, bytes], names: Iterable[str] | None = None) -> str:
    chosen = {name: msgspec.Raw(texts[name]) for name in (texts if names is None else names)}
    return _text(msgspec.json.encode(chosen))


def _text(json: bytes) -> str:
    return _shortened(json.decode(errors="replace"))


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."


def _clean(text: str) -> str:
    return _NOT_XML.sub("�", text)
