"""Binding: parsed text to typed expressions. Names are resolved, types inferred, Flink's implicit conversions made
explicit. A whitelist: a node that is not listed here is refused with its place and a remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlglot import exp

from penstock.errors import SqlError, SqlErrors
from penstock.expressions.casts import check_cast
from penstock.expressions.coercion import NULL, Mismatch, common_type, data_type_of, length_of
from penstock.expressions.column_scope import ColumnScope, Scope
from penstock.expressions.dialect import first_operand, parse_expression, span_of
from penstock.expressions.functions import ALIASES, function_named, remedy_for
from penstock.expressions.literals import coerced, interval, months, number, time_literal
from penstock.expressions.nodes import Call, Case, Cast, Expr, Literal, Span
from penstock.expressions.reserved import reserved_name
from penstock.expressions.settings import DEFAULT_LIMITS, ExpressionSettings
from penstock.expressions.table import Function, OwnCall, Typing
from penstock.model.stream import Column
from penstock.model.types import BOOLEAN, BYTES, STRING, DataType, Kind

__all__ = ["AGGREGATES", "OWN", "ColumnScope", "Hook", "Scope", "bind", "bind_text"]

AGGREGATES = frozenset({
    "COUNT", "SUM", "AVG", "MIN", "MAX", "STDDEV", "STDDEV_POP", "STDDEV_SAMP", "VARIANCE", "VAR_POP", "VAR_SAMP",
    "FIRST_VALUE", "LAST_VALUE", "LISTAGG", "ARRAY_AGG", "PERCENTILE", "APPROX_COUNT_DISTINCT", "APPROX_QUANTILE",
    "APPROX_TOP_K", "COLLECT",
})  # fmt: skip

_NOW = frozenset({"CURRENT_TIMESTAMP", "CURRENT_DATE", "CURRENT_TIME", "LOCALTIME", "LOCALTIMESTAMP", "NOW",
                  "CURRENT_ROW_TIMESTAMP", "PROCTIME", "RAND", "RAND_INTEGER", "UUID"})  # fmt: skip

#: In the `meta` of a call's node: its entry, where the app declares the function itself.
OWN = "own_function"

Hook = Callable[[exp.Expr], Expr | None]


def bind(
    node: exp.Expr, scope: Scope, *, hook: Hook | None = None, limits: ExpressionSettings = DEFAULT_LIMITS
) -> Expr:
    """The typed expression of `node`. Raises SqlErrors.

    `hook` is asked first for every node: it may return the expression that stands for it (a caller's ColumnRef for an
    aggregate call, say), or None.
    """
    return _Binder(scope, hook, limits).bind(node)


def bind_text(text: str, columns: Sequence[Column], *, limits: ExpressionSettings = DEFAULT_LIMITS) -> Expr:
    """Parse and bind one expression over columns. Raises SqlErrors."""
    return bind(parse_expression(text, limits), ColumnScope([(c.name, c.type) for c in columns]), limits=limits)


_BINARY: dict[type[exp.Expr], str] = {
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%",
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM", exp.NullSafeNEQ: "IS DISTINCT FROM",
}  # fmt: skip
_CHAINS: dict[type[exp.Expr], str] = {exp.And: "AND", exp.Or: "OR", exp.DPipe: "||"}
_TREE_DEPTH_MAX = 100

_REMEDIES: dict[type[exp.Expr], str] = {
    exp.Subquery: "Write a join, or put the query into a view.",
    exp.Select: "Write a join, or put the query into a view.",
    exp.Tuple: "Compare the columns one by one.",
    exp.Bracket: "Write a[1] for an array, m['key'] for a map.",
    exp.Dot: "Write row.field.",
    exp.Window: "OVER is not in this version; use a window table function with GROUP BY.",
    exp.Star: "Name the columns.",
    exp.Distinct: "DISTINCT stands in an aggregate or after SELECT.",
    exp.Filter: "FILTER belongs to an aggregate.",
    exp.AtTimeZone: "Times are UTC; CAST between TIMESTAMP and TIMESTAMP_LTZ.",
    exp.Order: "ORDER BY is not possible inside a call.",
}


class _Binder:
    def __init__(self, scope: Scope, hook: Hook | None, limits: ExpressionSettings) -> None:
        self._scope = scope
        self._hook = hook
        self._limits = limits
        self._terms = 0
        self._depth = 0
        self._spans: dict[int, Span] = {}  # by id: a long chain is walked down once, not once a level

    def bind(self, node: exp.Expr) -> Expr:
        if self._hook is not None:
            replaced = self._hook(node)
            if replaced is not None:
                return replaced
        self._terms += 1
        self._depth += 1
        if self._terms > self._limits.terms_max or self._depth > _TREE_DEPTH_MAX:
            raise self._error(node, "too_deep", "This expression is too large.",
                              "Split it: compute parts in a view or a computed column.")  # fmt: skip
        try:
            return self._node(node)
        except Mismatch as mismatch:
            raise self._error(node, mismatch.code, mismatch.message, mismatch.remedy) from None
        finally:
            self._depth -= 1

    def _node(self, node: exp.Expr) -> Expr:
        span = self._span(node)
        match node:
            case exp.Paren():
                return self.bind(node.this)
            case exp.Column():
                return self._column(node, span)
            case exp.Literal() if node.is_string:
                return Literal(STRING, value=node.this, span=span)
            case exp.Literal():
                return number(node.this, span=span)
            case exp.Boolean():
                return Literal(BOOLEAN, value=bool(node.this), span=span)
            case exp.Null():
                return Literal(NULL, value=None, span=span)
            case exp.HexString():
                return self._bytes(node, span)
            case exp.Var():
                return Literal(STRING, value=node.name, span=span)
            case exp.Interval():
                return interval(node, span=span)
            case exp.Neg():
                return self._negative(node, span)
            case exp.Not():
                return self.call("NOT", [node.this], node)
            case exp.Is():
                return self._is(node)
            case exp.Between():
                return self._between(node)
            case exp.In():
                return self._in(node)
            case exp.Like() | exp.SimilarTo():
                return self._like(node, node, [node.this, node.expression])
            case exp.Escape() if isinstance(node.this, exp.Like | exp.SimilarTo):
                return self._like(node, node.this, [node.this.this, node.this.expression, node.expression])
            case exp.Overlaps():
                return self._overlaps(node)
            case exp.Array():
                return self.call("ARRAY", node.expressions, node)
            case exp.Bracket():
                return self._bracket(node)
            case exp.Dot() if isinstance(node.expression, exp.Identifier):
                return self._field(self.bind(node.this), node.expression.name, node)
            case exp.Cast():  # TryCast is a Cast
                return self._cast(node, span)
            case exp.Case():
                return self._case(node, span)
            case exp.Anonymous():
                return self._function(node)
        if type(node) in _CHAINS:
            return self.call(_CHAINS[type(node)], _flattened(node), node)
        if type(node) in _BINARY:
            return self._binary(node, span)
        remedy = _REMEDIES.get(type(node), "Use the operators and functions of the reference page.")
        raise self._error(node, "unsupported", f"{_shown(node)} is not supported here.", remedy)

    def call(self, name: str, nodes: Sequence[exp.Expr], at: exp.Expr) -> Call:
        """A call of the table over operand nodes."""
        return self.typed_call(name, [self.bind(n) for n in nodes], at)

    def typed_call(self, name: str, args: Sequence[Expr], at: exp.Expr) -> Call:
        """A call of the table over bound operands: checked, converted, typed."""
        entry = function_named(name)
        typing = self._checked(entry, name, args, at)
        converted = tuple(_converted(a, t) for a, t in zip(args, typing.arguments, strict=True))
        return Call(typing.result, function=entry.name, args=converted, span=self._span(at))

    def _own(self, entry: Function, node: exp.Anonymous) -> OwnCall:
        """A call of a function that the app brings along."""
        args = [self.bind(n) for n in node.expressions]
        typing = self._checked(entry, entry.name, args, node)
        converted = tuple(_converted(a, t) for a, t in zip(args, typing.arguments, strict=True))
        return OwnCall(typing.result, function=entry.name, args=converted, span=self._span(node), entry=entry)

    def _checked(self, entry: Function, name: str, args: Sequence[Expr], at: exp.Expr) -> Typing:
        try:
            return entry.check(args)
        except Mismatch as mismatch:
            starts = mismatch.message[:1]
            message = mismatch.message if starts.isupper() or starts == "'" else f"{name} {mismatch.message}"
            raise self._error(at, mismatch.code, message, mismatch.remedy) from None

    def _column(self, node: exp.Column, span: Span) -> Expr:
        identifier = node.this
        if isinstance(identifier, exp.Identifier) and node.args.get("db"):
            return self._path(node, span)
        if not isinstance(identifier, exp.Identifier):
            raise self._error(node, "unsupported", f"{_shown(node)} is not supported here.", _REMEDIES[exp.Dot])
        if not identifier.args.get("quoted") and identifier.name.upper() in _NOW:
            raise self._no_clock(node, identifier.name)
        for part in node.parts:
            if isinstance(part, exp.Identifier) and (finding := reserved_name(part)) is not None:
                raise SqlErrors([finding])
        try:
            return replace(self._scope.resolve(node.name, node.table or None), span=span)
        except Mismatch as mismatch:
            try:
                row = self._scope.resolve(node.table, None)
            except Mismatch:
                raise mismatch from None
            if not node.table or row.type.kind is not Kind.ROW:
                raise
            return self._field(replace(row, span=span), node.name, node)

    def _path(self, node: exp.Column, span: Span) -> Expr:
        """`row.field.field`, or `table.row.field`: more names than a table and its column have."""
        names = [part.name for part in node.parts]
        try:
            found, rest = self._scope.resolve(names[1], names[0]), names[2:]
        except Mismatch:
            found, rest = self._scope.resolve(names[0], None), names[1:]
        path: Expr = replace(found, span=span)
        for name in rest:
            path = self._field(path, name, node)
        return path

    def _field(self, row: Expr, name: str, at: exp.Expr) -> Expr:
        return self.typed_call(".", [row, Literal(STRING, value=name, span=row.span)], at)

    def _bracket(self, node: exp.Bracket) -> Expr:
        """`MAP['k', 1]`, `a[1]` or `m['k']`."""
        column = node.this
        if isinstance(column, exp.Column) and column.name.upper() == "MAP" and not column.this.args.get("quoted"):
            return self.call("MAP", node.expressions, node)
        if len(node.expressions) != 1:
            raise self._error(node, "syntax", "One value stands in brackets.", _REMEDIES[exp.Bracket])
        return self.call("[]", [node.this, *node.expressions], node)

    def _no_clock(self, node: exp.Expr, name: str) -> SqlErrors:
        return self._error(node, "unsupported", f"{name.upper()} differs from run to run.",
                           "Use the event's own time or columns.")  # fmt: skip

    def _bytes(self, node: exp.HexString, span: Span) -> Expr:
        try:
            return Literal(BYTES, value=bytes.fromhex(node.this), span=span)
        except ValueError:
            raise Mismatch("X'...' takes pairs of hexadecimal digits.", "Write X'0aff'.") from None

    def _negative(self, node: exp.Neg, span: Span) -> Expr:
        if isinstance(node.this, exp.Literal) and not node.this.is_string:
            return number(node.this.this, negative=True, span=span)
        return self.call("NEGATE", [node.this], node)

    def _binary(self, node: exp.Expr, span: Span) -> Expr:
        operands = [node.this, node.expression]
        if isinstance(node, exp.Add | exp.Sub):
            for i, operand in enumerate(operands):
                count = months(operand) if isinstance(operand, exp.Interval) else None
                if count is not None:
                    moved = count if isinstance(node, exp.Add) else -count
                    unit = Literal(STRING, value="MONTH", span=span)
                    return self.typed_call("TIMESTAMPADD", [unit, number(str(abs(moved)), negative=moved < 0),
                                                            self.bind(operands[1 - i])], node)  # fmt: skip
        return self.call(_BINARY[type(node)], operands, node)

    def _is(self, node: exp.Is) -> Expr:
        word = node.expression
        negate = bool(node.args.get("negate"))
        if isinstance(word, exp.Null):
            return self.call("IS NOT NULL" if negate else "IS NULL", [node.this], node)
        if isinstance(word, exp.Var):
            found = self.call("IS JSON", [node.this, word], node)
            return self.typed_call("NOT", [found], node) if negate else found
        if not isinstance(word, exp.Boolean):
            raise self._error(node, "unsupported", "IS takes NULL, TRUE, FALSE or UNKNOWN.", "Compare values with =.")
        found = self.call("IS TRUE" if word.this else "IS FALSE", [node.this], node)
        return self.typed_call("NOT", [found], node) if negate else found

    def _between(self, node: exp.Between) -> Expr:
        value, low, high = (self.bind(node.args[k]) for k in ("this", "low", "high"))

        def within(least: Expr, most: Expr) -> Call:
            parts = [self.typed_call(">=", [value, least], node), self.typed_call("<=", [value, most], node)]
            return self.typed_call("AND", parts, node)

        if not node.args.get("symmetric"):
            return within(low, high)
        return self.typed_call("OR", [within(low, high), within(high, low)], node)

    def _in(self, node: exp.In) -> Expr:
        items = node.args.get("expressions") or []
        if node.args.get("query") is not None or not items:
            raise self._error(node, "unsupported", "IN takes a list of values.", "Write x IN (1, 2, 3), or a join.")
        return self.call("IN", [node.this, *items], node)

    def _overlaps(self, node: exp.Overlaps) -> Expr:
        ends: list[exp.Expr] = []
        for side in (node.this, node.expression):
            if not isinstance(side, exp.Tuple) or len(side.expressions) != 2:
                raise self._error(node, "syntax", "OVERLAPS takes two pairs of times.",
                                  "Write (start, end) OVERLAPS (start, INTERVAL '1' HOUR).")  # fmt: skip
            start, end = side.expressions
            ends += [start, exp.Add(this=start.copy(), expression=end) if isinstance(end, exp.Interval) else end]
        return self.call("OVERLAPS", ends, node)

    def _like(self, node: exp.Expr, like: exp.Like | exp.SimilarTo, operands: Sequence[exp.Expr]) -> Expr:
        found = self.call("LIKE" if isinstance(like, exp.Like) else "SIMILAR TO", operands, node)
        return self.typed_call("NOT", [found], node) if like.args.get("negate") else found

    def _cast(self, node: exp.Cast, span: Span) -> Expr:
        target = data_type_of(node.args["to"])
        arg = self.bind(node.this)
        if node.meta.get("typed_literal") and isinstance(arg, Literal):
            return time_literal(str(arg.value), target, span=span)
        check_cast(arg.type, target)
        if isinstance(arg, Literal) and arg.value is None:
            return Literal(target, value=None, span=span)
        length, padded = length_of(node.args["to"])
        lenient = isinstance(node, exp.TryCast)
        return Cast(target, arg=arg, lenient=lenient, length=length, padded=padded, span=span)

    def _case(self, node: exp.Case, span: Span) -> Expr:
        subject = self.bind(node.this) if node.this is not None else None
        branches = []
        for branch in node.args["ifs"]:
            condition = self.bind(branch.this)
            if subject is not None:
                condition = self.typed_call("=", [subject, condition], branch)
            elif condition.type.kind not in (Kind.BOOLEAN, Kind.NULL):
                raise self._error(branch, "type_mismatch", f"WHEN takes a condition, not {condition.type}.",
                                  "Write WHEN a = b THEN ...")  # fmt: skip
            branches.append((coerced(condition, BOOLEAN), self.bind(branch.args["true"])))
        default = node.args.get("default")
        otherwise = self.bind(default) if default is not None else None
        results = [value for _, value in branches] + ([otherwise] if otherwise is not None else [])
        found = common_type(r.type for r in results)
        if found is None:
            kinds = ", ".join(dict.fromkeys(str(r.type) for r in results))
            raise Mismatch(f"The branches of CASE have different types: {kinds}.", "CAST them to one type.")
        return Case(found, branches=tuple((c, coerced(v, found)) for c, v in branches),
                    otherwise=None if otherwise is None else coerced(otherwise, found), span=span)  # fmt: skip

    def _function(self, node: exp.Anonymous) -> Expr:
        own = node.meta.get(OWN)
        if isinstance(own, Function):
            return self._own(own, node)
        name = str(node.this).upper() if isinstance(node.this, str) else node.this.name
        if name in _NOW:
            raise self._no_clock(node, name)
        if name in AGGREGATES:
            raise self._error(node, "unsupported", f"The aggregate {name} cannot stand here.",
                              "Use it in SELECT or HAVING of a query with GROUP BY.")  # fmt: skip
        try:
            function_named(name)
        except KeyError:
            raise self._error(node, "unknown_function", f"There is no function {name}.", remedy_for(name)) from None
        return self.call(ALIASES.get(name, name), node.expressions, node)

    def _span(self, node: exp.Expr) -> Span:
        path: list[exp.Expr] = []
        at = node
        while id(at) not in self._spans:
            path.append(at)
            below = first_operand(at)
            if below is None or (at._meta and "line" in at.meta):
                self._spans[id(at)] = span_of(at)
            else:
                at = below
        for passed in path:
            self._spans[id(passed)] = self._spans[id(at)]
        return self._spans[id(node)]

    def _error(self, node: exp.Expr, code: str, message: str, remedy: str) -> SqlErrors:
        span = self._span(node)
        return SqlErrors([SqlError(span.line, span.column, code, message, remedy)])


def _converted(arg: Expr, target: DataType) -> Expr:
    try:
        return coerced(arg, target)
    except Mismatch as mismatch:
        place = arg.span
        raise SqlErrors(
            [SqlError(place.line, place.column, mismatch.code, mismatch.message, mismatch.remedy)]
        ) from None


def _flattened(node: exp.Expr) -> list[exp.Expr]:
    """Operands of a chain of one operator, left to right, without recursion over its left side."""
    kind, operands = type(node), []
    while type(node) is kind:
        operands.append(node.expression)
        node = node.this
    return [node, *reversed(operands)]


def _shown(node: exp.Expr) -> str:
    names = {exp.Subquery: "A subquery", exp.Select: "A subquery", exp.Tuple: "A list in parentheses",
             exp.Star: "'*'", exp.Bracket: "x[i]", exp.Dot: "a.b.c", exp.Column: "A name of that form"}  # fmt: skip
    return names.get(type(node), type(node).__name__.upper())
