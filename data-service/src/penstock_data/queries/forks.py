"""SQL that is written differently for SQLite and PostgreSQL, as one SQLAlchemy element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import Grouping
from sqlalchemy.types import TypeEngine

from penstock.errors import PenstockError

__all__ = ["Element", "Elements", "Fork", "Part", "binary", "floor_divided", "integer", "modulo_positive", "typed"]

Element = sa.ColumnElement[Any]
#: What stands behind column references, by name; some is known only once all is bound.
Elements = dict[str, Element | Callable[[], Element]]


_COUNT = "_penstock_parts"
#: What is added before times and days are divided, so that they are positive: far beyond any of them.
_FAR = 2**60


class Fork(sa.ColumnElement[Any]):
    """`sqlite` there, `postgresql` elsewhere. Its inputs' FROM must be named by the select around it."""

    inherit_cache = False

    def __init__(self, data_type: TypeEngine[Any], *, sqlite: Element, postgresql: Element) -> None:
        self.type = data_type
        self.sqlite, self.postgresql = Grouping(sqlite), Grouping(postgresql)


class Part(sa.ColumnElement[Any]):
    """An element in parentheses that is counted where it is written: functions may stand in each other several times,
    and a short query could become a text without end. `too_large` beyond `parts_max`.
    """

    inherit_cache = False

    def __init__(self, element: Element, *, parts_max: int) -> None:
        self.type = element.type
        self.element, self.parts_max = element, parts_max

    def self_group(self, against: object = None) -> Part:
        """Itself: it has parentheses, and for SQLite a condition is not compared with 1, which no index answers."""
        del against
        return self


@compiles(Part)
def _counted(element: Part, compiler: Any, **options: Any) -> str:
    count = compiler.__dict__.get(_COUNT, 0) + 1
    if count > element.parts_max:
        raise PenstockError(
            "too_large",
            f"written out, the query has more than {element.parts_max} parts: compute what is used several times in "
            "a query in FROM",
        )
    compiler.__dict__[_COUNT] = count
    return f"({compiler.process(element.element, **options)})"


@compiles(Fork)
def _elsewhere(element: Fork, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.postgresql, **options))


@compiles(Fork, "sqlite")
def _in_sqlite(element: Fork, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.sqlite, **options))


def typed(element: Element, data_type: TypeEngine[Any]) -> Element:
    """The element, in parentheses, known to have this type."""
    return sa.type_coerce(Grouping(element), data_type)


def binary(operator: str, left: Element, right: Element, data_type: TypeEngine[Any]) -> Element:
    """`(left operator right)` as it stands, without what SQLAlchemy thinks of the types."""
    return typed(left.op(operator)(right), data_type)


def integer(value: int) -> Element:
    """A BIGINT constant."""
    return sa.literal(value, sa.BigInteger())


def floor_divided(value: Element, by: int) -> Element:
    """Integer quotient toward minus infinity, of a time or day; both databases cut toward zero."""
    quotient = _FAR // by
    moved = binary("+", value, integer(quotient * by), sa.BigInteger())
    return binary("-", binary("/", moved, integer(by), sa.BigInteger()), integer(quotient), sa.BigInteger())


def modulo_positive(value: Element, by: int) -> Element:
    """The remainder, from 0 to `by` - 1."""
    cut = binary("%", value, integer(by), sa.BigInteger())
    return binary("%", binary("+", cut, integer(by), sa.BigInteger()), integer(by), sa.BigInteger())
