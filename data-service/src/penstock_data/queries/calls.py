"""Aggregates and window functions of one SELECT, gathered while its expressions are bound.

Grouping is two selects: the inner one computes keys and arguments, the outer one groups by its columns. So a key is
one column wherever it is written, also where it holds parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlglot import exp

from penstock.errors import SqlErrors
from penstock.expressions.bind import Hook, Scope, bind
from penstock.expressions.nodes import ColumnRef, Expr, Literal
from penstock.model.types import DataType, Kind
from penstock_data.queries.aggregates import WINDOW_FUNCTIONS, Finish, aggregate, aggregate_type, window_function
from penstock_data.queries.conditions import condition
from penstock_data.queries.forks import Element
from penstock_data.queries.ordering import ordered_by, parts_of
from penstock_data.queries.refusals import only, refused
from penstock_data.queries.scope import RowScope, Statement
from penstock_data.queries.subqueries import Anywhere, call_of, is_aggregate

__all__ = ["Groups", "Windows", "no_calls"]


def no_calls(anywhere: Anywhere, scope: Scope, where: str) -> Hook:
    """A hook for places where rows are not gathered yet."""

    def hook(node: exp.Expr) -> Expr | None:
        if isinstance(node, exp.Window):
            raise refused(node, "unsupported", f"OVER cannot stand in {where}.", "Write it in a query in FROM.")
        if is_aggregate(node):
            raise refused(node, "unsupported", f"An aggregate cannot stand in {where}.", "Write it in HAVING.")
        return anywhere.hook(node, scope, hook)

    return hook


class Groups:
    """GROUP BY and the aggregates: keys are bound first, then everything else with `hook`; `clause` is the result."""

    def __init__(self, statement: Statement, scope: RowScope, anywhere: Anywhere, keys: Sequence[exp.Expr]) -> None:
        self._statement, self._scope, self._anywhere = statement, scope, anywhere
        self._rows = no_calls(anywhere, scope, "GROUP BY or an aggregate")
        self._shapes = {type(key.unnest()) for key in keys} | {exp.Column}
        self._inner: list[Element] = []
        self._outer: list[tuple[str, Callable[[sa.Subquery], Element]]] = []
        self._keys: list[tuple[Expr, ColumnRef, int]] = []
        for key in keys:
            self._add_key(key)

    def hook(self, node: exp.Expr) -> Expr | None:
        """What stands for a key, an aggregate, or a column that is neither (which is refused)."""
        found = self._anywhere.hook(node, self._scope, self.hook)
        if found is not None:
            return found
        if isinstance(node, exp.Window):
            raise refused(node, "unsupported", "OVER cannot stand here.", "Write it in a query in FROM.")
        if is_aggregate(node):
            return self._aggregate(node)
        return self._key(node) if type(node) in self._shapes else None

    def clause(self, where: Callable[[sa.Select[tuple[object, ...]]], sa.Select[tuple[object, ...]]]) -> sa.Subquery:
        """The grouped rows, once everything has been bound; `where` completes the select of the rows before."""
        columns = [element.label(f"i{n}") for n, element in enumerate(self._inner)] or [sa.literal(1).label("i")]
        inner = where(sa.select(*columns)).subquery()
        made = [(name, build(inner)) for name, build in self._outer]
        shown = [element.label(name) for name, element in made]
        if not self._keys and not shown:
            shown = [sa.func.count().label("n")]  # one group, whatever is asked of it
        grouped = sa.select(
            *[inner.c[f"i{place}"].label(f"k{n}") for n, (_, _, place) in enumerate(self._keys)], *shown
        )
        grouped = grouped.select_from(inner).group_by(*(inner.c[f"i{place}"] for _, _, place in self._keys))
        found = grouped.subquery()
        for n, (_, ref, _) in enumerate(self._keys):
            self._statement.elements[ref.name] = sa.type_coerce(found.c[f"k{n}"], found.c[f"k{n}"].type)
        for name, _ in made:
            self._statement.elements[name] = found.c[name]
        return found

    def _add_key(self, node: exp.Expr) -> None:
        if isinstance(node, exp.Literal):
            raise refused(node, "unsupported", "GROUP BY takes columns and expressions, not numbers of them.",
                          "Write the expression.")  # fmt: skip
        bound = bind(node, self._scope, hook=self._rows)
        if bound.type.is_nested:
            raise refused(node, "type_mismatch", f"{bound.type} cannot be grouped by.", "Group by plain columns.")
        place = self._computed(bound)
        self._keys.append((bound, self._later(bound.type, bound), place))

    def _key(self, node: exp.Expr) -> Expr | None:
        try:
            bound = bind(node, self._scope, hook=self._rows)
        except SqlErrors:
            if isinstance(node, exp.Column):
                raise
            return None  # an aggregate is in it: its parts are looked at
        for key, ref, _ in self._keys:
            if key == bound:
                return ref
        if isinstance(node, exp.Column):
            raise refused(node, "not_grouped", f"'{node.name}' is neither in GROUP BY nor in an aggregate.",
                          "Add it to GROUP BY, or write MAX(...) around it.")  # fmt: skip
        return None

    def _aggregate(self, node: exp.Expr) -> Expr:
        call, filtered = node, None
        if isinstance(node, exp.Filter):
            call, filtered = node.this, node.expression.this
        name, arguments = call_of(call), list(call.expressions)
        distinct = len(arguments) == 1 and isinstance(arguments[0], exp.Distinct)
        if distinct:
            only(arguments[0], ("expressions",), where="DISTINCT")
            arguments = list(arguments[0].expressions)
        if len(arguments) != 1:
            raise refused(node, "argument_count", f"{name} takes one argument.", f"Write {name}(x).")
        star = isinstance(arguments[0], exp.Star)
        if star and (name != "COUNT" or distinct):
            raise refused(node, "argument_count", f"{name} takes a value, not *.", f"Write {name}(x).")
        argument = None if star else bind(arguments[0], self._scope, hook=self._rows)
        kind = aggregate_type(name, argument, at=node)
        if argument is not None and argument.type.is_nested and distinct:
            raise refused(node, "type_mismatch", f"{argument.type} has no DISTINCT.", "Count plain columns.")
        place = None if argument is None else self._computed(argument)
        chosen = None if filtered is None else self._chosen(filtered)

        def build(inner: sa.Subquery) -> Element:
            def finished(made: sa.Function[Any]) -> Element:
                return made if chosen is None else made.filter(inner.c[f"i{chosen}"])

            value = None if place is None else inner.c[f"i{place}"]
            source = None if argument is None else argument.type
            return aggregate(name, value, source=source, distinct=distinct, finished=finished)

        ref = self._later(kind, *([] if argument is None else [argument]))
        self._outer.append((ref.name, build))
        return ref

    def _chosen(self, node: exp.Expr) -> int:
        bound = bind(node, self._scope, hook=self._rows)
        element = condition(bound, self._statement, at=node, where="FILTER")
        self._inner.append(sa.type_coerce(element, sa.Boolean()))
        return len(self._inner) - 1

    def _computed(self, bound: Expr) -> int:
        self._inner.append(self._statement.written(bound))
        return len(self._inner) - 1

    def _later(self, kind: DataType, *made_of: Expr) -> ColumnRef:
        """A reference; what it stands for is known once all is bound."""
        return self._statement.ref(kind, sa.null(), texts=self._statement.texts_of(*made_of))


class Windows:
    """Calls with OVER in the SELECT list and ORDER BY, over rows or over groups."""

    def __init__(self, statement: Statement, scope: RowScope, anywhere: Anywhere, inner: Hook) -> None:
        """`inner`: the hook for their arguments."""
        self._statement, self._scope, self._anywhere, self._inner = statement, scope, anywhere, inner

    def hook(self, node: exp.Expr) -> Expr | None:
        """What stands for a call with OVER."""
        if not isinstance(node, exp.Window):
            inside = isinstance(node, exp.In)  # what is compared may hold OVER
            return self._anywhere.hook(node, self._scope, self.hook) if inside else self._inner(node)
        only(node, ("this", "partition_by", "order", "spec", "over"), where="OVER")
        call, name = node.this, call_of(node.this)
        arguments = [] if not isinstance(call, exp.Anonymous) else list(call.expressions)
        if not name or any(isinstance(argument, exp.Distinct) for argument in arguments):
            raise refused(node, "unsupported", "OVER takes a plain call, without DISTINCT and FILTER.",
                          "Write SUM(x) OVER (...), or SUM(CASE WHEN ... THEN x END) OVER (...).")  # fmt: skip
        over = self._over(node, ordered=name in WINDOW_FUNCTIONS)
        if name in WINDOW_FUNCTIONS:
            bound = [self._bound(argument) for argument in arguments]
            kind, written = window_function(name, bound, at=node)
            texts = self._statement.texts_of(*bound)
            return self._statement.ref(kind, lambda: written(self._statement.written, over()), texts=texts)
        star = len(arguments) == 1 and isinstance(arguments[0], exp.Star)
        if len(arguments) != 1 or (star and name != "COUNT"):
            raise refused(node, "argument_count", f"{name} takes one argument.", f"Write {name}(x).")
        argument = None if star else self._bound(arguments[0])
        kind = aggregate_type(name, argument, at=node)

        def element() -> Element:
            value = None if argument is None else self._statement.written(argument)
            source = None if argument is None else argument.type
            return aggregate(name, value, source=source, distinct=False, finished=over())

        texts = 1 if argument is None else self._statement.texts_of(argument)
        return self._statement.ref(kind, element, texts=texts)

    def _over(self, node: exp.Window, *, ordered: bool) -> Callable[[], Finish]:
        """What gives the end of the call, once what it goes by is known."""
        partition = [self._bound(one) for one in node.args.get("partition_by") or ()]
        order = node.args.get("order")
        if ordered and order is None:
            raise refused(node, "syntax", "This call needs an order.", "Write OVER (ORDER BY ...).")
        parts = [] if order is None else parts_of(order)
        by = [(self._bound(one.this), one) for one in parts]
        frame = self._frame(node)

        def over() -> Finish:
            groups = [self._statement.written(one) for one in partition] or None
            keys = [ordered_by(self._statement.written(bound), one) for bound, one in by] or None
            return lambda made: made.over(partition_by=groups, order_by=keys, **frame)

        return over

    def _frame(self, node: exp.Window) -> dict[str, Any]:
        spec = node.args.get("spec")
        if spec is None:
            return {}
        only(spec, ("kind", "start", "start_side", "end", "end_side"), where="a frame")
        start = self._bound_of(spec, "start", node)
        end = self._bound_of(spec, "end", node) if spec.args.get("end") else 0
        kind = str(spec.args.get("kind") or "").upper()
        if kind not in ("ROWS", "RANGE") or (kind == "RANGE" and node.args.get("order") is None):
            raise refused(node, "syntax", "This frame is not complete.", "Write ORDER BY x ROWS 5 PRECEDING.")
        if kind == "RANGE" and (start, end) not in ((None, 0), (None, None), (0, None), (0, 0)):
            raise refused(node, "unsupported", "RANGE takes UNBOUNDED and CURRENT ROW in queries.",
                          "Write ROWS, or join the rows of the range.")  # fmt: skip
        return {"rows" if kind == "ROWS" else "range_": (start, end)}

    def _bound_of(self, spec: exp.Expr, end: str, node: exp.Window) -> int | None:
        """Rows from the current one on; None: unbounded."""
        given, side = spec.args.get(end), str(spec.args.get(f"{end}_side") or "").upper()
        if isinstance(given, str):
            return 0 if given.upper() == "CURRENT ROW" else None
        bound = self._bound(given) if isinstance(given, exp.Expr) else None
        if not isinstance(bound, Literal) or not isinstance(bound.value, int) or bound.type.kind is Kind.INTERVAL \
                or not 0 <= bound.value < 2**31:  # fmt: skip
            raise refused(node, "unsupported", "A frame takes constant numbers of rows.", "Write ROWS 5 PRECEDING.")
        return -bound.value if side == "PRECEDING" else bound.value

    def _bound(self, node: exp.Expr) -> Expr:
        return bind(node, self._scope, hook=self._inner)
