"""Looks up the keys of a cycle before its step: from the cache, else in batches from the place, with retries.

One for each term of an app: what a cache holds is lost with the term and asked for again. A place that does not
answer after its retries ends the term with `lookup_failed` (the app waits and tries again), or its keys are marked so
that their events are rejected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import polars as pl

from penstock.lookups.open import make_lookup, options_with_secrets
from penstock.lookups.options import LookupOptions
from penstock.ports.clock import Clock
from penstock.ports.lookup import Answers, Key, Lookup, LookupFailed
from penstock_processor.logical.plan import AppPlan, Node
from penstock_processor.logical.plan_lookup import LookupJoin, LookupTable
from penstock_processor.logical.rewrite import inputs_of
from penstock_processor.metrics import LOOKUP_KEYS, LOOKUP_SECONDS
from penstock_processor.operators.interface import Found, Wanted
from penstock_processor.runtime.decode import RowDecoder
from penstock_processor.runtime.lookup_cache import LookupCache
from penstock_processor.settings import LookupSettings

__all__ = ["Lookups"]

Lines = tuple[bytes, ...]
_Asked = tuple[dict[Key, Lines], list[Key], str]  # what was found, keys without an answer, why


class Lookups:
    """See the module. `find` is called by one cycle at a time."""

    def __init__(self, plan: AppPlan, *, settings: LookupSettings, clock: Clock, secrets: Path | None) -> None:
        self._app, self._settings, self._clock, self._secrets = plan.name, settings, clock, secrets
        self._tables = {table.name: table for s in plan.statements for table in _tables(s.plan)}
        self._places: dict[tuple[str, tuple[str, ...]], _Place] = {}

    async def find(self, wanted: Sequence[Wanted]) -> dict[str, Found]:
        """What was found, by operator. Raises LookupFailed."""
        found = {}
        for each in wanted:
            names = tuple(each.keys.columns)
            place = self._places.get((each.table, names))
            if place is None:
                place = await self._open(self._tables[each.table], names)
                self._places[each.table, names] = place
            found[each.operator] = await place.find(each.keys)
        return found

    async def close(self) -> None:
        """Let go of connections."""
        await asyncio.gather(*(place.close() for place in self._places.values()))

    async def _open(self, table: LookupTable, names: tuple[str, ...]) -> _Place:
        options = await asyncio.to_thread(
            options_with_secrets, table.connector, dict(table.options), secrets=self._secrets
        )
        limits = self._settings
        lookup = make_lookup(options, table.columns, names, rows_max=limits.rows_max,
                             requests_max=limits.requests_max, reply_max_bytes=limits.reply_max_bytes,
                             written=dict(table.options).get("url", ""))  # fmt: skip
        return _Place(self._app, table, lookup, options=options, settings=limits, clock=self._clock)


class _Place:
    """One table by one key."""

    def __init__(self, app: str, table: LookupTable, lookup: Lookup, *, options: LookupOptions,
                 settings: LookupSettings, clock: Clock) -> None:  # fmt: skip
        self._app, self._table, self._lookup = app, table, lookup
        self._options, self._settings, self._clock = options, settings, clock
        self._decoder = RowDecoder(table.columns)
        self._cache = LookupCache(options)

    async def find(self, keys: pl.DataFrame) -> Found:
        """Rows of these distinct keys. Raises LookupFailed."""
        now_s = self._clock.monotonic_s()
        known: dict[Key, Lines] = {}
        missing: list[Key] = []
        for key in keys.rows():
            lines = self._cache.get(key, now_s)
            if lines is None:
                missing.append(key)
            else:
                known[key] = lines
        self._count("cached", len(known))
        lost: list[Key] = []
        why = ""
        for first in range(0, len(missing), self._settings.batch_keys):
            asked, failed, reason = await self._ask(missing[first : first + self._settings.batch_keys])
            known |= asked
            lost += failed
            why = reason or why
        lines_of = [line for lines in known.values() for line in lines]
        rows = (await asyncio.to_thread(self._decoder.decode, b"\n".join(lines_of))).frame
        failed_keys = pl.DataFrame(lost, schema=keys.schema, orient="row") if lost else None
        return Found(rows, failed_keys, why)

    async def close(self) -> None:
        """Let go of connections."""
        await self._lookup.close()

    async def _ask(self, keys: Sequence[Key]) -> _Asked:
        """One batch, again after a wait if it fails."""
        wait_s = self._settings.retry_min_s
        for turn in range(self._options.max_retries + 1):
            started_s = self._clock.monotonic_s()
            try:
                answers = await self._lookup.find(keys)
                found, misfits, why = await asyncio.to_thread(self._lines, answers)
                break
            except LookupFailed as error:
                if turn < self._options.max_retries:
                    await self._clock.sleep(wait_s)
                    wait_s = min(2 * wait_s, self._settings.retry_max_s)
                    continue
                self._count("failed", len(keys))
                if self._options.on_failure == "stop":
                    raise LookupFailed(f"lookup in '{self._table.name}': {error.detail}") from error
                return {}, list(keys), error.detail
            finally:
                LOOKUP_SECONDS.labels(self._app, self._table.name).observe(self._clock.monotonic_s() - started_s)
        self._count("asked", len(found))
        self._count("failed", len(misfits))
        now_s = self._clock.monotonic_s()
        for key, lines in found.items():
            self._cache.put(key, lines, now_s)
        return found, misfits, why

    def _lines(self, answers: Answers) -> _Asked:
        """Rows as JSON lines that can be read in the declared types, tried all at once; a key with one that cannot
        has no answer. Raises LookupFailed if the app is to wait then.
        """
        found = {key: tuple(msgspec.json.encode(row) for row in rows) for key, rows in answers.items()}
        bad = self._decoder.decode(b"\n".join(line for lines in found.values() for line in lines)).bad
        if not bad:
            return found, [], ""
        why = f"a row does not fit the columns of '{self._table.name}': {bad[0].detail}"
        if self._options.on_failure == "stop":
            raise LookupFailed(why)
        keys = [key for key, lines in found.items() for _ in lines]
        misfits = list(dict.fromkeys(keys[each.row] for each in bad))
        return {key: lines for key, lines in found.items() if key not in misfits}, misfits, why

    def _count(self, outcome: str, keys: int) -> None:
        if keys:
            LOOKUP_KEYS.labels(self._app, self._table.name, outcome).inc(keys)


def _tables(node: Node) -> Iterator[LookupTable]:
    if isinstance(node, LookupJoin):
        yield node.table
    for one in inputs_of(node):
        yield from _tables(one)
