"""First stage: the text of an app becomes statements. Syntax, and the whitelist of what a statement may contain.

Grammar: https://nightlies.apache.org/flink/flink-docs-stable/docs/sql/reference/ddl/create/ and `insert`.
"""

from __future__ import annotations

import re

from sqlglot import exp

from penstock.errors import SqlError, SqlErrors
from penstock.expressions.dialect import parse_statements, span_of, statement_text
from penstock.expressions.nodes import Span
from penstock.expressions.reserved import reserved_name, reserved_names
from penstock_processor.sql.findings import Findings, refusal
from penstock_processor.sql.limits import DEFAULT_LIMITS, SqlLimits
from penstock_processor.sql.statements import (
    ColumnDef,
    CreateFunction,
    CreateTable,
    CreateView,
    Insert,
    OptionText,
    Script,
    Setting,
    WatermarkDef,
    Word,
)

__all__ = ["identifier", "only", "parse_script"]

_UNSUPPORTED = {
    "replace": ("CREATE OR REPLACE", "Write CREATE TABLE; deploying the app again replaces what changed."),
    "overwrite": ("OVERWRITE", "Write INSERT INTO."),
    "partition": ("PARTITION (...) in INSERT", "Select the value as a column."),
    "LikeProperty": ("CREATE TABLE ... LIKE", "Write the columns out."),
    "PartitionedByProperty": ("PARTITIONED BY", "Name the key in WITH ('key' = '...')."),
    "conflict": ("ON CONFLICT", "A table with a primary key is upserted already."),
    "order": (
        "ORDER BY",
        "Streams have no end to sort at; order rows where they are read (`order=` of the data service).",
    ),
    "sort": ("SORT BY", "Order rows where they are read."),
    "limit": ("LIMIT", "Streams have no end; limit rows where they are read (`limit=` of the data service)."),
    "offset": ("OFFSET", "Skip rows where they are read."),
    "fetch": ("FETCH", "Limit rows where they are read (`limit=` of the data service)."),
    "distinct": (
        "SELECT DISTINCT",
        "It would remember every row for ever; GROUP BY the columns inside a TUMBLE window, or "
        "give the source 'dedupe' = '<columns>'.",
    ),
    "windows": ("WINDOW", "Write OVER (...) behind each function."),
    "qualify": ("QUALIFY", "Filter in an outer SELECT."),
    "with_": ("WITH inside this place", "Write CREATE TEMPORARY VIEW name AS SELECT ... instead."),
    "version": (
        "FOR SYSTEM_TIME AS OF",
        "It stands behind the right table of a join: FROM a JOIN b FOR SYSTEM_TIME AS OF a.ts AS b ON a.k = b.k.",
    ),
    "pivots": ("PIVOT", "Write one aggregate with FILTER (WHERE ...) per column."),
    "sample": ("TABLESAMPLE", "Filter with a condition instead."),
    "laterals": ("LATERAL", "Write CROSS JOIN LATERAL TABLE(function(t.column)) AS f(column)."),
    "columns": ("A list of column names", "Name the columns in the SELECT list."),
    "hint": ("hints", "Write options in WITH ('option' = 'value')."),
}

_WINDOW_OF_TABLE = re.compile(
    r"(?:\bFROM|\bJOIN|,)\s+(TUMBLE|HOP|CUMULATE|SESSION)\s*\(\s*(?:DATA\s*=>\s*)?TABLE\s+\Z", re.IGNORECASE
)


def parse_script(sql: str, limits: SqlLimits = DEFAULT_LIMITS) -> Script:
    """Statements in text order. Raises SqlErrors with every finding of this stage."""
    findings = Findings()
    statements: list[CreateTable | CreateView | CreateFunction | Insert | Setting] = []
    try:
        trees = parse_statements(sql)
    except SqlErrors as refused:
        raise SqlErrors([_bare_window(each, sql) or each for each in refused.errors]) from None
    if len(trees) > limits.statements_max:
        raise refusal(
            span_of(trees[limits.statements_max]),
            "too_many_statements",
            message=f"The app has {len(trees):,} statements.",
            remedy=f"At most {limits.statements_max:,} are read; split the app.",
        )
    for tree in trees:
        with findings.collecting():
            _check_depth(tree, depth_max=limits.syntax_depth_max)
            findings.extend(reserved_names(tree))
            statements.append(_statement(tree))
    if findings:
        raise SqlErrors(findings.sorted())
    return Script(tuple(statements))


def only(node: exp.Expr, allowed: tuple[str, ...], *, where: str) -> None:
    """Refuses a node that carries more than the named parts: sqlglot reads more than Flink or this version has."""
    for part, value in node.args.items():
        if part in allowed or not value:
            continue
        first = value[0] if isinstance(value, list) else value
        at = (
            span_of(first)
            if isinstance(first, exp.Expr) and first.find(exp.Identifier, exp.Literal)
            else span_of(node)
        )
        what, remedy = _UNSUPPORTED.get(part, (f"'{part.rstrip('_').upper().replace('_', ' ')}'", "Remove it."))
        code = "unbounded_state" if part == "distinct" else "unsupported"
        raise refusal(at, code, message=f"{what} is not supported in {where}.", remedy=remedy)


def identifier(node: exp.Expr | None, *, otherwise: Span, what: str) -> Word:
    """A plain name; anything else is refused at its place."""
    if isinstance(node, exp.Column) and not node.args.get("table"):
        node = node.this
    if not isinstance(node, exp.Identifier) or not node.name:
        at = span_of(node) if isinstance(node, exp.Expr) else otherwise
        raise refusal(
            at,
            "syntax",
            message=f"A name is expected as {what}.",
            remedy="Write a name, in `backticks` if it has special characters or is a keyword.",
        )
    if (finding := reserved_name(node)) is not None:
        raise SqlErrors([finding])
    return Word(node.name, span_of(node))


def _bare_window(error: SqlError, sql: str) -> SqlError | None:
    """The finding at a window function that stands where a table does, without TABLE( ) around it."""
    lines = sql.splitlines(keepends=True)[: error.line]
    before = "".join(lines[:-1]) + (lines[-1][: error.column - 1] if lines else "")
    found = _WINDOW_OF_TABLE.search(before)
    if error.code != "syntax" or found is None:
        return None
    line = before.count("\n", 0, found.start(1)) + 1
    column = found.start(1) - before.rfind("\n", 0, found.start(1))
    name = found[1].upper()
    remedy = f"Write FROM TABLE({name}(TABLE t, ...))."
    return SqlError(line, column, "syntax", f"{name} stands in TABLE(...).", remedy)


def _check_depth(tree: exp.Expr, *, depth_max: int) -> None:
    """Chains of operators and of UNION ALL nest to the left without any parenthesis, so depth is counted here."""
    level: list[exp.Expr] = [tree]
    for _ in range(depth_max):
        level = [child for node in level for child in node.iter_expressions()]
        if not level:
            return
    raise refusal(
        span_of(tree),
        "too_deep",
        message=f"This statement nests deeper than {depth_max:,} levels.",
        remedy="Split it: compute parts in views, and write long UNION ALL as several INSERT INTO.",
    )


def _statement(tree: exp.Expr) -> CreateTable | CreateView | CreateFunction | Insert | Setting:
    match tree:
        case exp.Set():
            key, value = tree.expressions[0].this.this, tree.expressions[0].this.expression
            return Setting(OptionText(key.name, value.name, span_of(key), span_of(value)))
        case exp.Insert():
            return _insert(tree)
        case exp.Create() if tree.kind == "VIEW":
            return _view(tree)
        case exp.Create() if tree.kind == "TABLE":
            return _table(tree)
        case exp.Create() if tree.kind == "FUNCTION":
            name = identifier(tree.this, otherwise=span_of(tree), what="the function")
            place = tree.expression
            return CreateFunction(name, Word(place.name, span_of(place)), span_of(tree))
        case exp.Select() | exp.SetOperation():
            raise refusal(
                span_of(tree),
                "no_target",
                message="A query needs a target.",
                remedy="Write INSERT INTO table SELECT ..., CREATE TABLE name WITH (...) AS SELECT ..., or CREATE "
                "TEMPORARY VIEW name AS SELECT ...",
            )
        case _:
            raise refusal(
                span_of(tree),
                "unsupported_statement",
                message="This statement is not supported.",
                remedy="Write CREATE TABLE, CREATE VIEW, INSERT INTO ... SELECT or SET 'key' = 'value'.",
            )


def _insert(tree: exp.Insert) -> Insert:
    only(tree, ("this", "expression"), where="INSERT")
    target, columns = _named(tree.this, what="the target")
    query = tree.expression
    if not isinstance(query, exp.Query) or isinstance(query, exp.Values):
        at = span_of(query) if isinstance(query, exp.Expr) else span_of(tree)
        raise refusal(
            at,
            "unsupported",
            message="INSERT takes a query only.",
            remedy="Write INSERT INTO table SELECT ... FROM ...; send single rows to the ingest gateway.",
        )
    names = tuple(identifier(c, otherwise=target.span, what="a column") for c in columns)
    return Insert(target, names, query, statement_text(tree), span_of(tree))


def _view(tree: exp.Create) -> CreateView:
    only(tree, ("this", "kind", "expression", "exists", "properties"), where="CREATE VIEW")
    for one in _properties(tree):
        if not isinstance(one, exp.TemporaryProperty | exp.SchemaCommentProperty):
            raise _stray_property(one, tree)
    name, columns = _named(tree.this, what="the view")
    if not isinstance(tree.expression, exp.Query) or isinstance(tree.expression, exp.Values):
        raise refusal(
            name.span, "syntax", message="A view needs a query.", remedy="Write CREATE VIEW name AS SELECT ..."
        )
    names = tuple(identifier(c, otherwise=name.span, what="a column") for c in columns)
    return CreateView(name, names, tree.expression, span_of(tree))


def _table(tree: exp.Create) -> CreateTable:
    only(tree, ("this", "kind", "expression", "exists", "properties"), where="CREATE TABLE")
    name, parts = _named(tree.this, what="the table")
    columns: list[ColumnDef] = []
    watermarks: list[WatermarkDef] = []
    keys: list[tuple[Word, ...]] = []
    for part in parts:
        match part:
            case exp.ColumnDef():
                columns.append(_column(part, keys))
            case exp.WatermarkColumnConstraint():
                column = identifier(part.this, otherwise=span_of(part), what="the watermark's column")
                watermarks.append(WatermarkDef(column, part.expression, column.span))
            case exp.PrimaryKey() | exp.Constraint():
                keys.append(_primary_key(part))
            case _:
                raise refusal(
                    span_of(part),
                    "syntax",
                    message="This is no column, WATERMARK or PRIMARY KEY.",
                    remedy="Write name TYPE, name AS expression, WATERMARK FOR ts AS ..., or PRIMARY KEY (...) NOT "
                    "ENFORCED.",
                )
    for several, what, at in (
        (watermarks, "WATERMARK", watermarks and watermarks[-1].span),
        (keys, "PRIMARY KEY", keys and keys[-1] and keys[-1][0].span),
    ):
        if len(several) > 1 and isinstance(at, Span):
            raise refusal(
                at, "duplicate_clause", message=f"The table has more than one {what}.", remedy="Keep one of them."
            )
    query = tree.expression
    if query is not None and (not isinstance(query, exp.Query) or isinstance(query, exp.Values)):
        raise refusal(
            span_of(query), "syntax", message="A table is filled by a query.", remedy="Write AS SELECT ... FROM ..."
        )
    return CreateTable(
        name,
        tuple(columns),
        watermarks[0] if watermarks else None,
        keys[0] if keys else (),
        _options(tree),
        query,
        statement_text(tree),
        span_of(tree),
    )


def _named(node: exp.Expr, *, what: str) -> tuple[Word, list[exp.Expr]]:
    """(name, what stands in parentheses behind it)"""
    table, parts = (node.this, node.expressions) if isinstance(node, exp.Schema) else (node, [])
    if not isinstance(table, exp.Table):
        raise refusal(
            span_of(node), "syntax", message=f"The name of {what} is missing.", remedy="Write a plain name."
        )
    if table.args.get("db") or table.args.get("catalog"):
        raise refusal(
            span_of(table),
            "unsupported",
            message="There are no catalogs or databases.",
            remedy=f"Write '{table.name}' alone.",
        )
    only(table, ("this",), where="the name of a table")
    return identifier(table.this, otherwise=span_of(node), what=what), parts


def _column(node: exp.ColumnDef, keys: list[tuple[Word, ...]]) -> ColumnDef:
    name = identifier(node.this, otherwise=span_of(node), what="a column")
    computed: exp.Expr | None = None
    not_null = False
    for constraint in node.args.get("constraints") or []:
        match constraint.args.get("kind"):
            case exp.ComputedColumnConstraint() as found:
                computed = found.this
            case exp.NotNullColumnConstraint() as found:
                not_null = not found.args.get("allow_null")
            case exp.PrimaryKeyColumnConstraint() as found:
                _check_enforced(found, at=name.span)
                keys.append((name,))
            case exp.CommentColumnConstraint():
                pass
            case _:
                raise refusal(
                    name.span,
                    "unsupported",
                    message=f"This definition of '{name.text}' is not supported.",
                    remedy="Write name TYPE [NOT NULL] or name AS expression.",
                )
    if (node.kind is None) == (computed is None):
        raise refusal(
            name.span,
            "syntax",
            message=f"Column '{name.text}' needs a type or an expression.",
            remedy=f"Write {name.text} STRING, or {name.text} AS expression.",
        )
    return ColumnDef(name, node.kind, computed, not_null)


def _primary_key(node: exp.Expr) -> tuple[Word, ...]:
    if isinstance(node, exp.Constraint):
        node = node.expressions[0] if len(node.expressions) == 1 else node
    if not isinstance(node, exp.PrimaryKey):
        raise refusal(
            span_of(node),
            "unsupported",
            message="Only PRIMARY KEY constraints exist.",
            remedy="Write PRIMARY KEY (column, ...) NOT ENFORCED.",
        )
    names = tuple(identifier(c, otherwise=span_of(node), what="a key column") for c in node.expressions)
    _check_enforced(node, at=names[0].span)
    return names


def _check_enforced(node: exp.Expr, *, at: Span) -> None:
    if [str(o).upper() for o in node.args.get("options") or []] != ["NOT ENFORCED"]:
        raise refusal(
            at,
            "enforced_key",
            message="A primary key is a promise of the statements, it is not enforced.",
            remedy="Write PRIMARY KEY (...) NOT ENFORCED.",
        )


def _options(tree: exp.Create) -> tuple[OptionText, ...]:
    found = []
    for one in _properties(tree):
        if isinstance(one, exp.SchemaCommentProperty | exp.TemporaryProperty):
            continue
        key, value = one.this, one.args.get("value")
        if not (isinstance(one, exp.Property) and isinstance(key, exp.Literal) and isinstance(value, exp.Literal)):
            raise _stray_property(one, tree)
        found.append(OptionText(key.name, value.name, span_of(key), span_of(value)))
    return tuple(found)


def _properties(tree: exp.Create) -> list[exp.Expr]:
    holder = tree.args.get("properties")
    return list(holder.expressions) if holder is not None else []


def _stray_property(node: exp.Expr, tree: exp.Create) -> SqlErrors:
    at = span_of(node) if node.find(exp.Identifier, exp.Literal) else span_of(tree)
    what, remedy = _UNSUPPORTED.get(
        type(node).__name__, ("This", "Write WITH ('option' = 'value'), both in single quotes.")
    )
    return refusal(at, "unsupported", message=f"{what} is not supported here.", remedy=remedy)
