"""Statements of an app as written: names and places, queries and expressions still as syntax trees."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from penstock.expressions.nodes import Span

__all__ = [
    "ColumnDef",
    "CreateFunction",
    "CreateTable",
    "CreateView",
    "Insert",
    "OptionText",
    "Script",
    "Setting",
    "WatermarkDef",
    "Word",
]


@dataclass(frozen=True, slots=True)
class Word:
    """A name and where it stands."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class OptionText:
    """`'name' = 'value'` and both places."""

    name: str
    value: str
    span: Span
    value_span: Span


@dataclass(frozen=True, slots=True)
class ColumnDef:
    """Physical (`type` given) or computed (`computed` given)."""

    name: Word
    type: exp.Expr | None
    computed: exp.Expr | None
    not_null: bool


@dataclass(frozen=True, slots=True)
class WatermarkDef:
    """WATERMARK FOR column AS expr."""

    column: Word
    expr: exp.Expr
    span: Span


@dataclass(frozen=True, slots=True)
class CreateTable:
    """CREATE TABLE; with `query` it is CREATE TABLE ... AS SELECT. `text` is the statement as written."""

    name: Word
    columns: tuple[ColumnDef, ...]
    watermark: WatermarkDef | None
    primary_key: tuple[Word, ...]
    options: tuple[OptionText, ...]
    query: exp.Expr | None
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class CreateView:
    """CREATE [TEMPORARY] VIEW name [(columns)] AS SELECT: a name for a query, nothing is stored."""

    name: Word
    columns: tuple[Word, ...]
    query: exp.Expr
    span: Span


@dataclass(frozen=True, slots=True)
class CreateFunction:
    """CREATE FUNCTION name AS 'file.function' LANGUAGE PYTHON."""

    name: Word
    reference: Word
    span: Span


@dataclass(frozen=True, slots=True)
class Insert:
    """INSERT INTO target [(columns)] SELECT."""

    target: Word
    columns: tuple[Word, ...]
    query: exp.Expr
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Setting:
    """SET 'key' = 'value'."""

    option: OptionText


@dataclass(frozen=True, slots=True)
class Script:
    """All statements in text order; statement sets are flattened."""

    statements: tuple[CreateTable | CreateView | CreateFunction | Insert | Setting, ...]
