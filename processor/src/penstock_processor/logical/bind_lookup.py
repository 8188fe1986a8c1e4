"""Tables that are looked up, and JOIN t FOR SYSTEM_TIME AS OF o.proc_time: rows as they are when an event comes.

A table with the connector `jdbc` or `http` that no statement writes is no relation of the log: it is asked for rows
by key. PROCTIME() is no value here, it only says that a join goes by the time of processing. Flink: "Lookup Join".
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from penstock.expressions.coercion import Mismatch, data_type_of
from penstock.expressions.dialect import span_of
from penstock.expressions.nodes import Call, Cast, ColumnRef, Expr, Span, walk
from penstock.lookups.options import LOOKUPS, read_lookup_options
from penstock.model.stream import Column
from penstock.model.types import BOOLEAN
from penstock_processor.logical.bind_join import Side, Terms, terms_of
from penstock_processor.logical.expressions import PROCTIME, bind_value, rows_only
from penstock_processor.logical.plan import Field, Filter, JoinKind, Node, Project, Scan
from penstock_processor.logical.plan_lookup import LookupJoin, LookupTable
from penstock_processor.logical.rewrite import all_of, columns_read, inputs_of, replace_columns
from penstock_processor.logical.scope import RowScope, Seen
from penstock_processor.sql.findings import Findings, closest, refusal
from penstock_processor.sql.statements import CreateTable

__all__ = ["bind_lookup_join", "bind_lookup_table", "check_proctime", "is_looked_up", "refuse_proctime"]


def is_looked_up(table: CreateTable, *, written: bool) -> bool:
    """Whether the table is asked for rows by key. `written`: some statement writes to it."""
    connector = next((option.value for option in table.options if option.name == "connector"), None)
    return connector in LOOKUPS and not written and table.query is None


def bind_lookup_table(table: CreateTable, findings: Findings) -> LookupTable | None:
    """The table; None if it is wrong. Notes all findings."""
    before = len(findings)
    columns = []
    for column in table.columns:
        if column.type is None:
            what = "A table that is looked up has no computed columns."
            findings.add(column.name.span, "unsupported", message=what, remedy="Compute it in the SELECT list.")
            continue
        try:
            columns.append(Column(column.name.text, data_type_of(column.type), not column.not_null))
        except Mismatch as mismatch:
            findings.add(column.name.span, "unsupported_type", message=mismatch.message, remedy=mismatch.remedy)
    if table.watermark is not None:
        findings.add(table.watermark.span, "unsupported", message="A table that is looked up has no event time.",
                     remedy="Remove WATERMARK.")  # fmt: skip
    given = {option.name: option for option in table.options}
    connector = given["connector"].value
    options = read_lookup_options(connector, {n: o.value for n, o in given.items() if n != "connector"})
    if isinstance(options, list):
        for wrong in options:
            known = given.get(wrong.name)
            code = "unknown_option" if wrong.unknown else "missing_option" if wrong.missing else "bad_option"
            at = table.name.span if known is None else known.span if wrong.unknown else known.value_span
            findings.add(at, code, message=wrong.message, remedy=wrong.remedy)
        return None
    names = [column.name for column in columns]
    for name in options.key_names or ():
        if name not in names:
            findings.add(given["url"].value_span, "unknown_column", message=f"There is no column '{name}'.",
                         remedy=closest(name, names, otherwise="Name columns of this table in braces."))  # fmt: skip
    if len(findings) > before:
        return None
    texts = tuple((option.name, option.value) for option in table.options if option.name != "connector")
    return LookupTable(table.name.text, connector, tuple(columns), texts, options.key_names)


def bind_lookup_join(left: Side, table: LookupTable, *, seen: tuple[Seen, Seen], condition: Iterable[Expr],
                     kind: JoinKind, at: Span) -> LookupJoin:  # fmt: skip
    """The join node. `condition`: predicates over the frame names of `seen`. Raises SqlErrors."""
    if kind not in (JoinKind.INNER, JoinKind.LEFT):
        raise refusal(
            at,
            "unsupported",
            message=f"A {kind} JOIN cannot look rows up: those that nobody asked for are not known.",
            remedy="Write JOIN or LEFT JOIN.",
        )
    if not _is_source(left.node):
        raise refusal(
            at,
            "unsupported",
            message="Rows are looked up only for those of a source, with filters, projections and other lookups.",
            remedy="Join the source itself, in a view, and group or join the result.",
        )
    found = terms_of(condition, seen)
    column_of = dict(zip(seen[1].frame, (f.name for f in seen[1].fields), strict=True))
    left_keys, key_columns = _keys(found, table, column_of, at=at)
    back = {n: ColumnRef(f.type, name=f.name) for f, n in zip(seen[0].fields, seen[0].frame, strict=True)}
    return LookupJoin(
        tuple(Field(n, f.type) for s in seen for f, n in zip(s.fields, s.frame, strict=True)),
        left.node,
        table,
        seen[0].frame,
        seen[1].frame,
        tuple(replace_columns(each, back) for each in left_keys),
        tuple(key_columns),
        residual=all_of(found.residual),
        kind=kind,
    )


def check_proctime(written: exp.Expr, node: Node, scope: RowScope, table: LookupTable) -> None:
    """FOR SYSTEM_TIME AS OF must name a time of processing of the left side (`node`). Raises SqlErrors."""
    time = bind_value(written, scope, hook=rows_only("FOR SYSTEM_TIME AS OF"))
    if not isinstance(time, ColumnRef) or not _is_proctime(node, time.name):
        raise refusal(
            span_of(written),
            "no_processing_time",
            message=f"'{table.name}' is looked up as it is now: FOR SYSTEM_TIME AS OF takes a time of processing.",
            remedy="Declare a column proc_time AS PROCTIME() in the source, or select PROCTIME() AS proc_time, and "
            "name it.",
        )


def _is_proctime(node: Node, name: str) -> bool:
    """Whether a column of `node` is the time of processing."""
    match node:
        case Scan():
            return name == node.proctime
        case Filter():
            return _is_proctime(node.input, name)
        case LookupJoin() if name in node.left_names:
            return _is_proctime(node.left, node.left.fields[node.left_names.index(name)].name)
        case Project():
            expr = next((each.expr for each in node.exprs if each.name == name), None)
            if isinstance(expr, ColumnRef):
                return _is_proctime(node.input, expr.name)
            return isinstance(expr, Call) and expr.function == PROCTIME
        case _:
            return False


def refuse_proctime(node: Node, *, at: Span) -> None:
    """Raises SqlErrors if the time of processing is read as a value anywhere in a pruned plan."""
    exprs = [each.expr for each in node.exprs] if isinstance(node, Project) else []
    read = columns_read(*exprs)
    for one in inputs_of(node):
        if isinstance(one, Scan) and isinstance(node, Project) and one.proctime not in read:
            continue
        refuse_proctime(one, at=at)
    calls = any(isinstance(e, Call) and e.function == PROCTIME for expr in exprs for e in walk(expr))
    if calls or (isinstance(node, Scan) and node.proctime):
        raise refusal(
            at,
            "unsupported",
            message="PROCTIME() has no values, it says that a join goes by the time of processing.",
            remedy="Name the other columns instead of *; write CURRENT_TIMESTAMP for the time of the cycle.",
        )


def _is_source(node: Node) -> bool:
    while isinstance(node, Filter | Project | LookupJoin):
        node = node.left if isinstance(node, LookupJoin) else node.input
    return isinstance(node, Scan) and node.source


def _keys(found: Terms, table: LookupTable, column_of: dict[str, str], *, at: Span) -> tuple[list[Expr], list[str]]:
    """What is asked for: the connector's keys, or all that ON has equalities for. The others become conditions."""
    chosen: dict[str, Expr] = {}
    for first, second in zip(found.left_keys, found.right_keys, strict=True):
        plain = second.arg if isinstance(second, Cast) and not second.lenient else second
        column = column_of.get(plain.name) if isinstance(plain, ColumnRef) else None
        if column is not None and column not in chosen and (table.key_names is None or column in table.key_names):
            chosen[column] = first
        else:
            found.residual.append(Call(BOOLEAN, function="=", args=(first, second), span=first.span))
    names = table.key_names or tuple(chosen)
    missing = [name for name in names if name not in chosen]
    if missing or not names:
        key = missing[0] if missing else "key"
        raise refusal(
            at,
            "no_join_key",
            message=f"ON does not say by which {key} '{table.name}' is asked.",
            remedy=f"Write ON o.{key} = t.{key}.",
        )
    return [chosen[name] for name in names], list(names)
