"""The rows of one cycle, asked about one by one: what conditions say of a row alone is known before for all."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from penstock_processor.operators.pattern.automaton import Automaton
from penstock_processor.operators.pattern.begun import Begun, Blocks, KeyMatches, Row, block_of
from penstock_processor.operators.pattern.conditions import RowRefused
from penstock_processor.operators.pattern.shape import Asking, Shape
from penstock_processor.operators.pattern.values import values_of

__all__ = ["DueRows"]

_Codes = list[str | None] | None


class DueRows:
    """`may_start`: of each row, whether it can be the first of a match."""

    def __init__(self, shape: Shape, automaton: Automaton) -> None:
        self.automaton = automaton
        self.may_start: list[bool] = []
        self._row: Row | None = None
        self._shape = shape
        self._fallible = bool(shape.kept_errors) or any(v.error is not None for v in shape.variables)
        self._starts = {move.variable for move in automaton.moves[automaton.start]}
        self._beside: list[Callable[[Asking], bool] | None] = [v.beside for v in shape.variables]
        self._alone: list[list[bool] | None] = []
        self._codes: list[_Codes] = []
        self._kept: list[list[object]] = []
        self._now: list[list[object]] = []
        self._refused: _Codes = None
        self._at = 0
        self._asking: Asking | None = None

    def over(self, due: pl.DataFrame) -> None:
        """The rows of the cycle, with the column `$due` last of what is kept."""
        shape = self._shape
        exprs = [expr.alias(f"$k{n}") for n, expr in enumerate(shape.kept)]
        if shape.kept_errors:
            exprs.append(pl.coalesce(shape.kept_errors).alias("$refused"))
        for n, variable in enumerate(shape.variables):
            if variable.alone is not None:
                exprs.append(variable.alone.fill_null(value=False).alias(f"$alone{n}"))
            if variable.error is not None:
                exprs.append(variable.error.alias(f"$error{n}"))
        made = due.with_columns(exprs)
        self._kept = [values_of(made[f"$k{n}"]) for n in range(len(shape.kept))]
        self._kept.append(due["$due"].to_list())
        self._now = [values_of(due[name]) for name in shape.now]
        self._refused = made["$refused"].to_list() if shape.kept_errors else None
        numbered = list(enumerate(shape.variables))
        self._alone = [None if v.alone is None else made[f"$alone{n}"].to_list() for n, v in numbered]
        self._codes = [None if v.error is None else made[f"$error{n}"].to_list() for n, v in numbered]
        self.may_start = self._starting(made)

    def look_at(self, number: int) -> None:
        """The row that is asked about next."""
        self._at = number
        self._row = self._asking = None

    def row(self) -> Row:
        """What is kept of the row looked at."""
        if self._row is None:
            at = self._at
            self._row = tuple([column[at] for column in self._kept])
        return self._row

    def asked(self, variable: int, /, key: KeyMatches, first: int, number: int, blocks: Blocks) -> bool:
        """See `matching.Asked`. Raises RowRefused."""
        at = self._at
        if self._fallible:
            self._refuse(variable, at)
        alone, beside = self._alone[variable], self._beside[variable]
        if alone is not None and not alone[at]:
            return False
        if beside is None:
            return True
        asking = self._asking
        if asking is None:
            now = tuple([column[at] for column in self._now])
            asking = self._asking = Asking(key, self.row(), now, variable, first, number, blocks)
        else:
            asking.variable, asking.first, asking.blocks = variable, first, blocks
        return beside(asking)

    def _refuse(self, variable: int, at: int) -> None:
        """Raises if the row has no answer, or nothing that can be added up."""
        for codes in (self._refused, self._codes[variable]):
            if codes is not None and (code := codes[at]) is not None:
                raise RowRefused(code)

    def resume(self, match: Begun) -> int | None:
        """See `matching.Resume`."""
        shape = self._shape
        if shape.skip_to is None:
            return match.end if shape.past_last else match.first + 1
        block = block_of(match.first, match.end, match.blocks, shape.skip_to)
        number = None if block is None else block[0] if shape.to_first else block[1] - 1
        return number if number is not None and number > match.first else None

    def _starting(self, made: pl.DataFrame) -> list[bool]:
        found: pl.Expr = pl.lit(False)
        for n in self._starts:
            variable = self._shape.variables[n]
            if variable.alone is None:
                return [True] * made.height
            found = found | pl.col(f"$alone{n}")
            if variable.error is not None:
                found = found | pl.col(f"$error{n}").is_not_null()
        return made.select(found.alias("$starts"))["$starts"].to_list()
