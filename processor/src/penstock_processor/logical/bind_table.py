"""CREATE TABLE: columns, computed columns, watermark, key and options become a StreamSpec and a SourcePlan."""

from __future__ import annotations

import re
from dataclasses import dataclass

from penstock.expressions.coercion import Mismatch, data_type_of
from penstock.expressions.dialect import span_of
from penstock.expressions.nodes import Call, Span
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import DataType, Kind
from penstock_processor.logical.bind_insert import places_of
from penstock_processor.logical.expressions import PROCTIME, bind_value, rows_only
from penstock_processor.logical.options import TableOptions, read_options
from penstock_processor.logical.plan import Field, Named, Node, SourcePlan, Watermark
from penstock_processor.logical.scope import RowScope, Seen
from penstock_processor.sql.findings import Findings, closest
from penstock_processor.sql.limits import SqlLimits
from penstock_processor.sql.statements import CreateTable, WatermarkDef, Word

__all__ = ["TableContext", "bind_table", "check_relation_name", "fields_of"]

NAME_CHARS_MAX = 63
_RELATION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_RAW_COLUMNS = ("_position", "_received_at", "_id", "_time", "_key", "_body")


@dataclass(frozen=True, slots=True)
class TableContext:
    """What a table's definition does not say itself."""

    app: str
    written: bool  # some statement writes to it
    idle_timeout_ms: int | None  # SET 'table.exec.source.idle-timeout'
    limits: SqlLimits
    parallelism: int = 1  # SET 'parallelism.default'


def bind_table(
    table: CreateTable, context: TableContext, *, query: Node | None, findings: Findings
) -> SourcePlan | None:
    """The declared relation; None if its columns cannot be known. `query`: the plan behind AS. Notes all findings."""
    before = len(findings)
    physical = _physical(table, query, findings)
    computed = _computed(table, physical, findings)
    fields = _fields(physical, computed, None)
    _check_names(table, [(w, c) for w, c in physical] + [(w, None) for w, _ in computed], context, findings)
    watermark = None if table.watermark is None else _watermark(table.watermark, fields, findings)
    key = _primary_key(table, physical, findings)
    usable = len(findings) == before
    relation = Relation.SOURCE if not context.written else Relation.TABLE if key else Relation.STREAM
    if relation is Relation.SOURCE and table.primary_key and watermark is None:
        findings.add(
            table.primary_key[0].span,
            "source_with_key",
            message="A source is append-only: it has a primary key only as versions in time.",
            remedy="Declare WATERMARK, too, to join its versions FOR SYSTEM_TIME AS OF; or remove PRIMARY KEY. To "
            f"drop repeated events write 'dedupe' = '{','.join(key)}', and to keep the last row of a key insert into "
            "a table with this key.",
        )
    columns = tuple(Column(w.text, c.type, c.nullable and w.text not in key) for w, c in physical)
    options = read_options(
        table.options,
        at=table.name.span,
        relation=relation,
        columns={c.name: c for c in columns},
        primary_key=key,
        findings=findings,
        parallelism=context.parallelism,
    )
    if not usable:
        return None
    time = watermark.column if watermark is not None and watermark.column in {c.name for c in columns} else None
    kept = () if relation is Relation.SOURCE else key
    part_key = options.key if options.key is not None else key
    spec = _spec(table, context.app, relation=relation, columns=columns, key=kept, part_key=part_key, time=time,
                 options=options)  # fmt: skip
    idle = options.idle_timeout_ms if options.idle_timeout_ms is not None else context.idle_timeout_ms
    order = tuple(column.name.text for column in table.columns) if computed else ()
    clock = [named.name for _, named in computed if _is_clock(named)]
    return SourcePlan(
        spec,
        tuple(named for _, named in computed if not _is_clock(named)),
        watermark,
        idle if watermark is not None else None,
        order,
        key if watermark is not None else (),
        clock[0] if clock else "",
        options.lateness_ms,
    )


def fields_of(source: SourcePlan) -> tuple[Field, ...]:
    """What statements see: physical and computed columns; the watermark's column is the rowtime."""
    time = None if source.watermark is None else source.watermark.column
    fields = [Field(c.name, c.type, c.name == time) for c in source.spec.columns]
    fields += [Field(c.name, c.expr.type, c.name == time) for c in source.computed]
    fields += [Field(source.proctime, DataType(Kind.TIMESTAMP_LTZ))] if source.proctime else []
    places = {name: place for place, name in enumerate(source.order)}
    return tuple(sorted(fields, key=lambda field: places.get(field.name, 0)))


def _is_clock(named: Named) -> bool:
    return isinstance(named.expr, Call) and named.expr.function == PROCTIME


def check_relation_name(name: Word, findings: Findings) -> None:
    """Names travel in URLs, scopes and table names of databases, so they are plain."""
    if not _RELATION_NAME.fullmatch(name.text) or len(name.text) > NAME_CHARS_MAX:
        findings.add(
            name.span,
            "bad_name",
            message=f"'{name.text[:80]}' cannot name a table or view.",
            remedy=f"Use a letter, then letters, digits and _, at most {NAME_CHARS_MAX}.",
        )


def _physical(table: CreateTable, query: Node | None, findings: Findings) -> list[tuple[Word, Column]]:
    before = len(findings)
    found: list[tuple[Word, Column]] = []
    for column in table.columns:
        if column.type is None:
            continue
        if table.query is not None:
            findings.add(
                column.name.span,
                "unsupported",
                message="Columns of CREATE TABLE ... AS come from its query.",
                remedy="Remove the column, or use CREATE TABLE and INSERT INTO.",
            )
            continue
        try:
            data_type = data_type_of(column.type)
            _refuse_map_keys(data_type)
            found.append((column.name, Column(column.name.text, data_type, not column.not_null)))
        except Mismatch as mismatch:
            findings.add(column.name.span, "unsupported_type", message=mismatch.message, remedy=mismatch.remedy)
    if query is not None:
        found += _queried(query, table.name.span, findings)
    if not found and len(findings) == before:
        findings.add(
            table.name.span, "no_columns", message="The table has no columns.", remedy="Write (name TYPE, ...)."
        )
    return found


def _queried(query: Node, at: Span, findings: Findings) -> list[tuple[Word, Column]]:
    """The columns of CREATE TABLE ... AS, at the places of the SELECT list."""
    found: list[tuple[Word, Column]] = []
    for i, (field, place) in enumerate(zip(query.fields, places_of(query, at), strict=True)):
        if field.name == f"EXPR${i}":
            findings.add(
                place,
                "unnamed_column",
                message=f"Column {i + 1} of the query has no name.",
                remedy="Write expression AS name.",
            )
        elif field.type.kind in (Kind.NULL, Kind.INTERVAL):
            findings.add(
                place,
                "unsupported_type",
                message=f"Column '{field.name}' would be {field.type}.",
                remedy="Write CAST(... AS type).",
            )
        else:
            try:
                _refuse_map_keys(field.type)
            except Mismatch as mismatch:
                findings.add(place, "unsupported_type", message=mismatch.message, remedy=mismatch.remedy)
            found.append((Word(field.name, place), Column(field.name, field.type)))
    return found


def _refuse_map_keys(data_type: DataType) -> None:
    """Events are JSON, whose objects have texts as keys."""
    if data_type.kind is Kind.MAP and data_type.key_and_value[0].kind is not Kind.STRING:
        raise Mismatch(f"A column cannot be {data_type}.", "Make STRING the type of its keys.")
    for _, part in data_type.parts:
        _refuse_map_keys(part)


def _computed(
    table: CreateTable, physical: list[tuple[Word, Column]], findings: Findings
) -> list[tuple[Word, Named]]:
    """Computed columns see physical ones only, as in Flink."""
    fields = tuple(Field(c.name, c.type) for _, c in physical)
    scope = _scope(table.name.text, fields)
    found = []
    for column in table.columns:
        if column.computed is None:
            continue
        with findings.collecting():
            expr = bind_value(column.computed, scope, hook=rows_only("a computed column"))
            if expr.type.kind in (Kind.NULL, Kind.INTERVAL):
                findings.add(
                    column.name.span,
                    "unsupported_type",
                    message=f"'{column.name.text}' would be {expr.type}.",
                    remedy="Write CAST(... AS type).",
                )
            found.append((column.name, Named(column.name.text, expr)))
    return found


def _fields(
    physical: list[tuple[Word, Column]], computed: list[tuple[Word, Named]], time: str | None
) -> tuple[Field, ...]:
    own = [Field(c.name, c.type, c.name == time) for _, c in physical]
    return (*own, *(Field(n.name, n.expr.type, n.name == time) for _, n in computed))


def _check_names(
    table: CreateTable, names: list[tuple[Word, Column | None]], context: TableContext, findings: Findings
) -> None:
    seen: dict[str, str] = {}
    for word, _ in names:
        other = seen.setdefault(word.text.lower(), word.text)
        if other is not word.text and (other != word.text or list(w.text for w, _ in names).count(word.text) > 1):
            findings.add(
                word.span,
                "name_taken",
                message=f"The table already has a column '{other}'.",
                remedy="Use another name; databases do not tell upper from lower case.",
            )
        reserved = word.text.startswith("$") or (not context.written and word.text in _RAW_COLUMNS)
        if reserved or len(word.text) > NAME_CHARS_MAX or not word.text.isprintable():
            findings.add(
                word.span,
                "bad_name",
                message=f"'{word.text[:80]}' cannot name a column.",
                remedy=f"Use at most {NAME_CHARS_MAX} characters, no $ in front, and none of "
                f"{', '.join(_RAW_COLUMNS)} in a source.",
            )
    if len(names) > context.limits.columns_max:
        findings.add(
            table.name.span,
            "too_many_columns",
            message=f"The table has {len(names):,} columns.",
            remedy=f"At most {context.limits.columns_max:,}.",
        )


def _watermark(definition: WatermarkDef, fields: tuple[Field, ...], findings: Findings) -> Watermark | None:
    name, at = definition.column.text, definition.column.span
    column = next((f for f in fields if f.name == name), None)
    if column is None:
        findings.add(
            at,
            "unknown_column",
            message=f"There is no column '{name}'.",
            remedy=closest(name, [f.name for f in fields], otherwise="Name a column of this table."),
        )
        return None
    if not column.type.is_timestamp:
        findings.add(
            at,
            "type_mismatch",
            message=f"'{name}' is {column.type}, event time is TIMESTAMP(3) or TIMESTAMP_LTZ(3).",
            remedy=f"Declare a computed column such as event_time AS TO_TIMESTAMP({name}), and WATERMARK for it."
            if column.type.kind is Kind.STRING
            else "Declare the column TIMESTAMP(3), or a computed column of that type.",
        )
        return None
    with findings.collecting():
        expr = bind_value(definition.expr, _scope("", fields), hook=rows_only("a watermark"))
        if expr.type == column.type:
            return Watermark(name, expr)
        findings.add(
            _place(definition, at),
            "type_mismatch",
            message=f"The watermark is {expr.type}, its column {column.type}.",
            remedy=f"Write WATERMARK FOR {name} AS {name} - INTERVAL '5' SECOND.",
        )
    return None


def _place(definition: WatermarkDef, otherwise: Span) -> Span:
    found = span_of(definition.expr)
    return found if found.line > 1 or found.column > 1 else otherwise


def _primary_key(table: CreateTable, physical: list[tuple[Word, Column]], findings: Findings) -> tuple[str, ...]:
    known = {c.name: c for _, c in physical}
    for i, word in enumerate(table.primary_key):
        if word.text not in known:
            computed = any(c.computed is not None and c.name.text == word.text for c in table.columns)
            findings.add(
                word.span,
                "unknown_column",
                message=f"The primary key names '{word.text}', which is {'computed' if computed else 'no column'}.",
                remedy="Name physical columns."
                if computed
                else closest(word.text, known, otherwise=f"Columns are {', '.join(known)}."),
            )
        elif word.text in {w.text for w in table.primary_key[:i]}:
            findings.add(
                word.span, "name_taken", message=f"The primary key names '{word.text}' twice.", remedy="Name it once."
            )
        elif known[word.text].type.is_nested or known[word.text].type.kind in (Kind.FLOAT, Kind.DOUBLE):
            findings.add(
                word.span,
                "bad_key",
                message=f"'{word.text}' is {known[word.text].type}; only exact plain values are a key.",
                remedy="Use DECIMAL, an integer or STRING.",
            )
    return tuple(w.text for w in table.primary_key)


def _spec(
    table: CreateTable,
    app: str,
    *,
    relation: Relation,
    columns: tuple[Column, ...],
    key: tuple[str, ...],
    part_key: tuple[str, ...],
    time: str | None,
    options: TableOptions,
) -> StreamSpec:
    written = relation is not Relation.SOURCE
    shown = written and not options.outlet  # what is delivered to others is kept here only if asked for
    name = table.name.text
    dedupe = options.dedupe
    foreign = options.foreign
    if foreign is not None:
        dedupe = ()
    if dedupe is None:
        dedupe = ("id",) if not written and any(c.name == "id" for c in columns) else ()
    return StreamSpec(
        name=name,
        app=app,
        relation=relation,
        columns=columns,
        primary_key=key,
        time_column=time,
        key=part_key,
        partitions=options.partitions,
        publish=shown if options.publish is None else options.publish,
        store=shown if options.store is None else options.store,
        scope=options.scope or f"{name}:read",
        retention_s=options.retention_s,
        dedupe=dedupe,
        unknown=options.unknown,
        emit=options.emit,
        max_ahead_s=86_400.0 if options.max_ahead_s is None else options.max_ahead_s,
        options={o.name: o.value for o in table.options},
        topic="" if foreign is None else foreign.topic,
        startup="earliest" if foreign is None else foreign.startup,
        archive=foreign is None and (not written if options.archive is None else options.archive),
    )


def _scope(alias: str, fields: tuple[Field, ...]) -> RowScope:
    return RowScope((Seen(alias, fields, tuple(f.name for f in fields)),))
