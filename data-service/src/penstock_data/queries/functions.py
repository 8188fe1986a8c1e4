"""Operators and functions of queries: by the names of the function table, how each is written in SQL.

Families: here logic, choice, numbers and text; times in `functions_time`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import sqlalchemy as sa

from penstock.expressions.nodes import Call, Literal
from penstock.model.types import Kind
from penstock.stores.tables import column_type
from penstock_data.patterns import LIKE_ESCAPE
from penstock_data.queries import decimals
from penstock_data.queries.forks import Element, Fork, binary, integer, typed
from penstock_data.queries.functions_time import TIME_FUNCTIONS, moved
from penstock_data.queries.refusals import refused_at

__all__ = ["FUNCTIONS", "Build"]

Build = Callable[[Call, Sequence[Element]], Element]

_FLOATS = (Kind.FLOAT, Kind.DOUBLE)
_LIKE_WILD_MAX = 8  # each % may look at the whole text again, and no deadline is asked meanwhile
#: Of what is looked for in a text. One call takes the length of both multiplied, and no deadline is asked meanwhile.
_SOUGHT_CHARS_MAX = 256
_TRIMMED_CHARS_MAX = 32  # SQLite calls a function to compare each of them with each character
_ZERO: Element = sa.literal(0.0, sa.Double())


def _compare(operator: str) -> Build:
    return lambda _, args: binary(operator, args[0], args[1], sa.Boolean())


def _distinct(call: Call, args: Sequence[Element]) -> Element:
    left, right = args
    found = left.is_distinct_from(right) if call.function == "IS DISTINCT FROM" else left.is_not_distinct_from(right)
    return typed(found, sa.Boolean())


def _in(_: Call, args: Sequence[Element]) -> Element:
    value, *others = args
    return typed(value.in_(others), sa.Boolean())


def _like(call: Call, args: Sequence[Element]) -> Element:
    pattern, escape = _sought(call, 1), _text(call, 2) if len(call.args) > 2 else None
    parts, wild, i = [], 0, 0
    while i < len(pattern):
        c = pattern[i]
        literal = c == escape
        if literal:
            i += 1
            c = pattern[i]
        wild += c == "%" and not literal
        parts.append(LIKE_ESCAPE + c if c == LIKE_ESCAPE or (literal and c in "%_") else c)
        i += 1
    if wild > _LIKE_WILD_MAX:
        raise refused_at(call.span, "too_deep", f"A pattern has at most {_LIKE_WILD_MAX} times %.", "Shorten it.")
    return typed(args[0].like("".join(parts), escape=LIKE_ESCAPE), sa.Boolean())


def _arithmetic(call: Call, args: Sequence[Element]) -> Element:
    kind, operator = call.type.kind, call.function
    left, right = args
    if kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ, Kind.DATE):
        return moved(call, args)
    if kind is Kind.DECIMAL:
        types = (call.args[0].type, call.args[1].type)
        return decimals.computed(operator, left, right, types=types, to=call.type)
    if kind in _FLOATS:
        return _float(operator, left, right)
    divisor = sa.func.nullif(right, integer(0)) if operator in "/%" else right
    return binary(operator, left, typed(divisor, sa.BigInteger()), sa.BigInteger())


def _float(operator: str, left: Element, right: Element) -> Element:
    """DOUBLE: a division by 0 is NULL, as NaN and what comes of it is in the store."""
    if operator not in "/%":
        return binary(operator, left, right, sa.Double())
    divisor = typed(sa.func.nullif(right, _ZERO), sa.Double())
    if operator == "/":
        return binary("/", left, divisor, sa.Double())
    quotient = binary("/", left, divisor, sa.Double())
    whole = typed(sa.case((quotient < _ZERO, sa.func.ceil(quotient)), else_=sa.func.floor(quotient)), sa.Double())
    return binary("-", left, binary("*", divisor, whole, sa.Double()), sa.Double())


def _negate(call: Call, args: Sequence[Element]) -> Element:
    if call.type.kind is Kind.DECIMAL:
        zero = sa.literal(Decimal(0), column_type(call.type))
        return decimals.computed("-", zero, args[0], types=(call.type, call.type), to=call.type)
    zero_of = _ZERO if call.type.kind in _FLOATS else integer(0)
    return binary("-", zero_of, args[0], column_type(call.type))


def _if(call: Call, args: Sequence[Element]) -> Element:
    return sa.type_coerce(sa.case((args[0], args[1]), else_=args[2]), column_type(call.type))


def _coalesce(call: Call, args: Sequence[Element]) -> Element:
    return args[0] if len(args) == 1 else sa.type_coerce(sa.func.coalesce(*args), column_type(call.type))


def _nullif(call: Call, args: Sequence[Element]) -> Element:
    if call.type != call.args[0].type:
        raise refused_at(call.span, "unsupported", "NULLIF compares values of one type in queries.", "Write CAST.")
    return sa.type_coerce(sa.func.nullif(*args), column_type(call.type))


def _extreme(call: Call, args: Sequence[Element]) -> Element:
    if len(args) == 1:
        return args[0]
    greatest = call.function == "GREATEST"
    missing = sa.or_(*(arg.is_(None) for arg in args))
    return Fork(
        column_type(call.type),
        sqlite=(sa.func.max if greatest else sa.func.min)(*args),
        postgresql=sa.case((sa.not_(missing), (sa.func.greatest if greatest else sa.func.least)(*args))),
    )


def _size(call: Call, args: Sequence[Element]) -> Element:
    if call.type.kind is Kind.DECIMAL:
        zero = sa.literal(Decimal(0), column_type(call.type))
        negative = binary("<", args[0], zero, sa.Boolean())
        turned = decimals.computed("-", zero, args[0], types=(call.type, call.type), to=call.type)
        return sa.type_coerce(sa.case((negative, turned), else_=args[0]), column_type(call.type))
    found = sa.type_coerce(sa.func.abs(args[0]), column_type(call.type))
    # SQLite leaves -0.0 as it is.
    return binary("+", found, _ZERO, sa.Double()) if call.type.kind in _FLOATS else found


def _sign(call: Call, args: Sequence[Element]) -> Element:
    if call.type.kind is Kind.DECIMAL:
        raise refused_at(call.span, "unsupported", "SIGN takes integers and DOUBLEs in queries.",
                         "Write SIGN(CAST(x AS DOUBLE)).")  # fmt: skip
    kind = column_type(call.type)
    return sa.type_coerce(sa.cast(sa.func.sign(args[0]), kind), kind)


def _whole(call: Call, args: Sequence[Element]) -> Element:
    """CEIL and FLOOR of numbers."""
    if len(args) == 2:
        return TIME_FUNCTIONS[f"{call.function} TO"](call, args)
    source = call.args[0].type
    if source.is_integer:
        return args[0]
    if source.kind is Kind.DECIMAL:
        raise refused_at(call.span, "unsupported", f"{call.function} takes DOUBLEs in queries.",
                         f"Write {call.function}(CAST(x AS DOUBLE)).")  # fmt: skip
    return sa.type_coerce(getattr(sa.func, call.function.lower())(args[0]), sa.Double())


def _round(call: Call, args: Sequence[Element]) -> Element:
    source, digits = call.args[0].type, _number(call, 1) if len(call.args) > 1 else 0
    if source.kind is Kind.DECIMAL:
        if digits < 0:
            raise refused_at(call.span, "unsupported", "ROUND takes 0 digits or more in queries.", "Divide first.")
        return decimals.rescaled(args[0], source, call.type) if call.type != source else args[0]
    if source.is_integer or digits < 0 or digits > 15:
        if digits >= 0 and source.is_integer:
            return args[0]
        raise refused_at(call.span, "unsupported", "ROUND takes 0 to 15 digits in queries.", "Divide first.")
    places = sa.literal(digits, sa.Integer())
    return Fork(
        sa.Double(),
        sqlite=sa.func.round(args[0], places),
        postgresql=sa.cast(sa.func.round(sa.cast(args[0], sa.Numeric()), places), sa.Double()),
    )


def _domain(function: str, holds: Callable[[Element], Element]) -> Build:
    """A function that is NULL outside of its domain."""

    def build(_: Call, args: Sequence[Element]) -> Element:
        return sa.type_coerce(sa.case((holds(args[0]), getattr(sa.func, function)(args[0]))), sa.Double())

    return build


def _log10(_: Call, args: Sequence[Element]) -> Element:
    either = Fork(sa.Double(), sqlite=sa.func.log10(args[0]), postgresql=sa.func.log(args[0]))
    return sa.type_coerce(sa.case((args[0] > _ZERO, either)), sa.Double())


def _double(function: str) -> Build:
    return lambda _, args: sa.type_coerce(getattr(sa.func, function)(*args), sa.Double())


def _text_of(function: str) -> Build:
    return lambda call, args: sa.type_coerce(getattr(sa.func, function)(*args), column_type(call.type))


def _joined(call: Call, args: Sequence[Element]) -> Element:
    found = args[0]
    for arg in args[1:]:
        found = binary("||", found, arg, column_type(call.type))
    return found


def _trim(call: Call, args: Sequence[Element]) -> Element:
    side, text = "BOTH", args[0]
    characters: Element = sa.literal(" ", sa.Text())
    if len(args) > 1:
        _sought(call, 1, most=_TRIMMED_CHARS_MAX)
        characters = args[1]
    if call.function == "TRIM" and len(args) == 3:
        side, text = _text(call, 0), args[2]
    side = {"LTRIM": "LEADING", "RTRIM": "TRAILING"}.get(call.function, side)
    names = {"BOTH": ("trim", "btrim"), "LEADING": ("ltrim", "ltrim"), "TRAILING": ("rtrim", "rtrim")}[side]
    here, there = (getattr(sa.func, name)(text, characters) for name in names)
    return Fork(column_type(call.type), sqlite=here, postgresql=there)


def _substring(call: Call, args: Sequence[Element]) -> Element:
    numbers = [_number(call, i) for i in range(1, len(args))]
    if numbers[0] < 1 or any(n < 0 for n in numbers):
        raise refused_at(call.span, "unsupported", "SUBSTRING starts at 1 or later in queries.", "Write RIGHT(x, n).")
    return typed(sa.func.substr(args[0], *(sa.literal(n, sa.Integer()) for n in numbers)), column_type(call.type))


def _end(call: Call, args: Sequence[Element]) -> Element:
    """LEFT and RIGHT."""
    count = max(0, _number(call, 1))
    kind, taken = column_type(call.type), sa.literal(count, sa.Integer())
    if call.function == "LEFT" or count == 0:
        return typed(sa.func.substr(args[0], sa.literal(1, sa.Integer()), taken), kind)
    return Fork(kind, sqlite=sa.func.substr(args[0], sa.literal(-count, sa.Integer())),
                postgresql=sa.func.right(args[0], taken))  # fmt: skip


def _replace(call: Call, args: Sequence[Element]) -> Element:
    if len(_text(call, 2)) > len(_sought(call, 1)):
        raise refused_at(call.span, "unsupported", "REPLACE makes no text longer in queries: nested ones could make "
                         "any text too long.", "Give it a new text that is no longer than the old one.")  # fmt: skip
    return _text_of("replace")(call, args)


def _place(call: Call, args: Sequence[Element]) -> Element:
    first = int(call.function == "INSTR")
    _sought(call, first)
    part, text = args[first], args[1 - first]
    if len(args) > 2:
        raise refused_at(call.span, "unsupported", "LOCATE takes two arguments in queries.", "Leave the start out.")
    return Fork(sa.BigInteger(), sqlite=sa.func.instr(text, part), postgresql=sa.func.strpos(text, part))


def _text(call: Call, place: int) -> str:
    found = call.args[place]
    if not isinstance(found, Literal) or not isinstance(found.value, str):
        raise refused_at(found.span, "unsupported", f"{call.function} takes a constant text here.", "Write it.")
    return found.value


def _sought(call: Call, place: int, *, most: int = _SOUGHT_CHARS_MAX) -> str:
    found = _text(call, place)
    if len(found) > most:
        detail = f"{call.function} looks for at most {most} characters in queries."
        raise refused_at(call.args[place].span, "too_large", detail, "Shorten it.")
    return found


def _number(call: Call, place: int) -> int:
    found = call.args[place]
    if not isinstance(found, Literal) or not isinstance(found.value, int):
        raise refused_at(found.span, "unsupported", f"{call.function} takes a constant number here.", "Write it.")
    return found.value


FUNCTIONS: Mapping[str, Build] = {
    **{name: _compare(name) for name in ("=", "<>", "<", "<=", ">", ">=")},
    "IS DISTINCT FROM": _distinct,
    "IS NOT DISTINCT FROM": _distinct,
    "AND": lambda _, args: typed(sa.and_(*args), sa.Boolean()),
    "OR": lambda _, args: typed(sa.or_(*args), sa.Boolean()),
    "NOT": lambda _, args: typed(sa.not_(args[0]), sa.Boolean()),
    "IS NULL": lambda _, args: typed(args[0].is_(None), sa.Boolean()),
    "IS NOT NULL": lambda _, args: typed(args[0].is_not(None), sa.Boolean()),
    "IS TRUE": lambda _, args: typed(sa.func.coalesce(args[0], sa.literal(False, sa.Boolean())), sa.Boolean()),
    "IS FALSE": lambda _, args: typed(
        sa.not_(typed(sa.func.coalesce(args[0], sa.literal(True, sa.Boolean())), sa.Boolean())), sa.Boolean()
    ),
    "IN": _in,
    "LIKE": _like,
    **{name: _arithmetic for name in ("+", "-", "*", "/", "%")},
    "NEGATE": _negate,
    "COALESCE": _coalesce,
    "IFNULL": _coalesce,
    "IF": _if,
    "NULLIF": _nullif,
    "GREATEST": _extreme,
    "LEAST": _extreme,
    "ABS": _size,
    "SIGN": _sign,
    "CEIL": _whole,
    "FLOOR": _whole,
    "ROUND": _round,
    "POWER": _double("power"),
    "EXP": _double("exp"),
    "SQRT": _domain("sqrt", lambda x: x >= _ZERO),
    "LN": _domain("ln", lambda x: x > _ZERO),
    "LOG10": _log10,
    "||": _joined,
    "CONCAT": _joined,
    "UPPER": _text_of("upper"),
    "LOWER": _text_of("lower"),
    "CHAR_LENGTH": _text_of("length"),
    "TRIM": _trim,
    "LTRIM": _trim,
    "RTRIM": _trim,
    "BTRIM": _trim,
    "SUBSTRING": _substring,
    "LEFT": _end,
    "RIGHT": _end,
    "REPLACE": _replace,
    "POSITION": _place,
    "LOCATE": _place,
    "INSTR": _place,
    **{name: build for name, build in TIME_FUNCTIONS.items() if not name.endswith(" TO")},
}
