"""Ranks of rows within groups, before and after a cycle, and the difference as changes. Flink: "Top-N"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.model.batch import Op
from penstock_processor.operators.step import AT, CHANGE, NOWHERE

__all__ = ["AFTER", "BEFORE", "HELD_BEFORE", "ROW", "Flags", "Ranking", "difference", "first_after", "ranks_of"]

Flags = npt.NDArray[np.bool_]

ROW = "$row"
BEFORE, AFTER = "$before", "$after"
_WAS, _STAYS = "$was", "$is"
HELD_BEFORE, _HELD_AFTER = "$held_before", "$held_after"  # rows of the group


@dataclass(frozen=True, slots=True)
class Ranking:
    """`columns` of the rows that are kept; `order`: (column, descending, nulls last). `rank`: name of its column,
    None: not given. `latest`: of rows with equal `order`, the one that came last ranks first.
    """

    columns: tuple[str, ...]
    partition: tuple[str, ...]
    order: tuple[tuple[str, bool, bool], ...]
    limit: int
    rank: str | None
    latest: bool


def ranks_of(ranking: Ranking, rows: pl.DataFrame, was: Flags, stays: Flags, *, came: str = ROW) -> pl.DataFrame:
    """Of each row its number in `rows` (ROW) and its ranks among those that were there (BEFORE) and are (AFTER).

    In order of the ranking. `was`, `stays`: which rows were there and are. `came`: column that decides between equals
    (ROW: their order in `rows`).
    """
    by = [name for name, _, _ in ranking.order]
    needed = list(dict.fromkeys([*ranking.partition, *by, *(() if came == ROW else (came,))]))
    flags = [pl.Series(ROW, np.arange(rows.height)), pl.Series(_WAS, was), pl.Series(_STAYS, stays)]
    table = pl.DataFrame([*(rows[name] for name in needed), *flags]).sort(
        [*by, came],
        descending=[*(descending for _, descending, _ in ranking.order), ranking.latest],
        nulls_last=[*(last for _, _, last in ranking.order), False],
    )
    counted = [
        pl.col(_WAS).cum_sum().alias(BEFORE),
        pl.col(_STAYS).cum_sum().alias(AFTER),
        pl.col(_WAS).sum().alias(HELD_BEFORE),
        pl.col(_STAYS).sum().alias(_HELD_AFTER),
    ]
    return table.with_columns([each.over(ranking.partition) for each in counted] if ranking.partition else counted)


def first_after(ranks: pl.DataFrame, limit: int) -> Flags:
    """Which rows are among the first of those that are there."""
    return (ranks[_STAYS] & (ranks[AFTER] <= limit)).to_numpy()


def difference(ranking: Ranking, rows: pl.DataFrame, ranks: pl.DataFrame) -> pl.DataFrame | None:
    """What is taken back, then what comes instead, each in order of the ranking."""
    after = first_after(ranks, ranking.limit)
    before = (ranks[_WAS] & (ranks[BEFORE] <= ranking.limit)).to_numpy()
    same = before & after
    if ranking.rank is not None:
        same &= ranks[BEFORE].to_numpy() == ranks[AFTER].to_numpy()
    parts = []
    for chosen, rank, others, one, other in (
        (before & ~same, BEFORE, _HELD_AFTER, Op.UPDATE_BEFORE, Op.DELETE),
        (after & ~same, AFTER, HELD_BEFORE, Op.UPDATE_AFTER, Op.INSERT),
    ):
        if not chosen.any():
            continue
        which = ranks.filter(pl.Series(chosen))
        # With the rank, or with one row a group, a place stays and gets another row.
        stays = (which[rank] <= which[others]).to_numpy() & (ranking.rank is not None or ranking.limit == 1)
        found = rows[which[ROW].to_numpy()]
        columns = [found[name] for name in ranking.columns]
        if ranking.rank is not None:
            columns.append(which[rank].cast(pl.Int64).alias(ranking.rank))
        ops = np.where(stays, int(one), int(other)).astype(np.int8)
        at = np.full(found.height, NOWHERE, np.int64)
        parts.append(pl.DataFrame([*columns, pl.Series(CHANGE, ops), pl.Series(AT, at)]))
    return pl.concat(parts) if parts else None
