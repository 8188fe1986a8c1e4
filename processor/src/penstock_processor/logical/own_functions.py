"""CREATE FUNCTION: calls of an app's own functions are given their entries before anything is bound."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import NoReturn, Protocol

from sqlglot import exp

from penstock.errors import PenstockError
from penstock.expressions.bind import AGGREGATES, OWN
from penstock.expressions.functions import ALIASES, FUNCTIONS
from penstock.expressions.nodes import Call, Expr
from penstock.expressions.table import Compiled, Function
from penstock.python_functions import AggregateFunction, ScalarFunction, aggregate_entry_of, entry_of
from penstock_processor.logical.catalog import Unusable
from penstock_processor.logical.expressions import OWN_AGGREGATE
from penstock_processor.sql.findings import Findings
from penstock_processor.sql.statements import CreateFunction, CreateTable, CreateView, Insert, Script

__all__ = ["NO_FUNCTIONS", "FunctionSource", "attach_functions"]


class FunctionSource(Protocol):
    """Where the code of functions comes from."""

    def load(self, reference: str) -> ScalarFunction | AggregateFunction:
        """The function of `file.function`. PenstockError `bad_request` says what is wrong with it, and the remedy."""
        ...


class _NoFunctions:
    def load(self, reference: str) -> ScalarFunction | AggregateFunction:
        raise PenstockError(
            "bad_request", f"no folder for '{reference}' is known; name it in the setting processor.functions_folders"
        )


#: For places that have no code of apps.
NO_FUNCTIONS: FunctionSource = _NoFunctions()


def attach_functions(script: Script, source: FunctionSource, findings: Findings) -> None:
    """Every call of a declared function in the statements' trees knows its entry from here on (`meta`)."""
    entries: dict[str, tuple[str, Function]] = {}
    for statement in script.statements:
        if isinstance(statement, CreateFunction):
            declared = _declared(statement, source, entries, findings)
            if declared is not None:
                entries[declared[1].name] = declared
    if not entries:
        return
    for statement in script.statements:
        for tree in _trees(statement):
            for call in tree.find_all(exp.Anonymous):
                own = entries.get(call.name.upper())
                if own is not None:
                    kind, entry = own
                    call.meta[kind] = entry


def _declared(
    statement: CreateFunction, source: FunctionSource, known: Container[str], findings: Findings
) -> tuple[str, Function] | None:
    """Where a call keeps its entry, and the entry; of what does not load one that adds no findings."""
    name = statement.name.text.upper()
    if name in known or name in FUNCTIONS or name in ALIASES or name in AGGREGATES:
        findings.add(
            statement.name.span,
            "name_taken",
            message=f"There is a function {name} already.",
            remedy="Choose another name.",
        )
        return None
    try:
        function = source.load(statement.reference.text)
        if isinstance(function, AggregateFunction):
            return OWN_AGGREGATE, aggregate_entry_of(name, function)
        return OWN, entry_of(name, function)
    except PenstockError as error:
        message, _, remedy = error.detail.rpartition("; ")
        findings.add(
            statement.reference.span,
            "unusable_function",
            message=f"{message[:1].upper()}{message[1:]}.",
            remedy=f"{remedy[:1].upper()}{remedy[1:]}.",
        )
        return OWN, Function(name, name, "What does not load.", _unusable, _never, ())


def _unusable(_: Sequence[Expr]) -> NoReturn:
    raise Unusable


def _never(_: Call, __: Sequence[Compiled]) -> NoReturn:
    raise AssertionError("nothing that calls it is bound")


def _trees(statement: object) -> Iterator[exp.Expr]:
    match statement:
        case CreateTable():
            yield from (column.computed for column in statement.columns if column.computed is not None)
            if statement.watermark is not None:
                yield statement.watermark.expr
            if statement.query is not None:
                yield statement.query
        case CreateView() | Insert():
            yield statement.query
