"""`make bench-rules`: 1,000 rules on one stream, in events a second, and one event through them in milliseconds.

    python -m loadtests.rules_bench [KIND ...] [--rules 1000] [--events 10000] [--rounds 5] [--seconds 1.0]

Measured is the whole cycle as the processor runs it, without the log: NDJSON of the events in, decoded, all rules
matched, what hits materialised and encoded as one batch. Beside it the same work one rule after the other, written
straight in Polars (a filter and an encoded frame a rule), alternating in one run. A figure is the median of the
rounds, its spread (greatest - least) / median of the same thing measured again (A/A). Results go to
loadtests/results/rules.json as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from loadtests.machine import describe_machine
from loadtests.sections import Figure, spread
from penstock.codecs.arrow import encode_frame
from penstock.codecs.ndjson import encode_lines
from penstock.expressions.predicate import Predicate, compile_predicate
from penstock.model.batch import Batch, Encoding
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, DOUBLE, STRING
from penstock.ports.log import Catalog
from penstock_processor.compile.engines import engine_of
from penstock_processor.rules.bind import bind_rule, spelled_out
from penstock_processor.rules.model import Rule, RuleSet
from penstock_processor.rules.plan import plan_rules
from penstock_processor.runtime.app_worker import AppWorker
from penstock_processor.runtime.decode import RowDecoder
from penstock_processor.runtime.inputs import Lines, PartitionInput
from penstock_processor.settings import ProcessorSettings

RESULTS = Path(__file__).parent / "results" / "rules.json"
SOURCE = StreamSpec(
    "readings",
    "bench",
    Relation.SOURCE,
    (Column("device", STRING), Column("site", BIGINT), Column("temperature", DOUBLE), Column("humidity", DOUBLE)),
)
TARGET_EVENTS_PER_S, TARGET_ONE_MS = 200_000, 20

#: Kind -> the predicate of rule n. About one event in five hits some rule; `mixed` has a quarter of each.
KINDS: dict[str, Callable[[int], str]] = {
    "equality": lambda n: f"device = 'd{n * 5}' AND temperature > {n % 50}",
    "thresholds": lambda n: f"temperature > {99.9 + n / 10_000:.4f}",
    "formulas": lambda n: f"temperature > {99.5 + n / 2_000:.4f} AND humidity < {1 + n % 3} OR site = {n * 5}",
    "as written": lambda n: f"device LIKE 'd{n * 5}%' AND temperature + humidity > {150 + n % 40}",
}


def main() -> int:
    """Measure the kinds asked for and print a line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="*", choices=[*KINDS, "mixed", []], help="default: all")
    parser.add_argument("--rules", type=int, default=1_000)
    parser.add_argument("--events", type=int, default=10_000, help="of one cycle")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one round")
    chosen = parser.parse_args()
    print(f"machine: {json.dumps(describe_machine())}; {chosen.rules:,} rules, {chosen.events:,} events a cycle")
    figures: list[Figure] = []
    for kind in chosen.kind or [*KINDS, "mixed"]:
        found = measured(kind, chosen)
        for figure in found:
            noise = "" if figure.spread is None else f"± {figure.spread:.0%} A/A"
            print(f"{figure.name:46} {figure.value:>12,.4g} {figure.unit:9} target {figure.target:14} {noise:12} "
                  f"{figure.note}", flush=True)  # fmt: skip
        figures += found
    RESULTS.parent.mkdir(exist_ok=True)
    document = {"machine": describe_machine(), "figures": [figure.as_json() for figure in figures]}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def measured(kind: str, chosen: argparse.Namespace) -> list[Figure]:
    """Events a second, the ratio to rules one by one, and one event alone, of one kind of rules."""
    made = list(KINDS.values())
    texts = [(made[n % len(made)] if kind == "mixed" else KINDS[kind])(n) for n in range(chosen.rules)]
    many, one = _taken(chosen.events), _taken(1)
    worker = _worker(texts)
    plain = [compile_predicate(text, SOURCE.columns) for text in texts]
    hits = sum(batch.count for batch in worker.cycle([many], now_ms=0).transaction.appends)
    together, alone, ratios, single, single_plain = [], [], [], [], []
    for _ in range(chosen.rounds):
        together.append(chosen.events / _median_s(lambda: worker.cycle([many], now_ms=0), chosen.seconds))
        alone.append(chosen.events / _median_s(lambda: _one_by_one(many, plain, texts), chosen.seconds / 2))
        ratios.append(together[-1] / alone[-1])
        single.append(_median_s(lambda: worker.cycle([one], now_ms=0), chosen.seconds / 2) * 1000)
        single_plain.append(_median_s(lambda: _one_by_one(one, plain, texts), chosen.seconds / 2) * 1000)
    events_per_s, ms = statistics.median(together), statistics.median(single)
    return [
        Figure(f"rules, {kind}", events_per_s, "events/s", f">= {TARGET_EVENTS_PER_S:,}", spread(together),
               f"{hits:,} hits a cycle"),
        Figure(f"rules, {kind}: ratio to one by one", statistics.median(ratios), "x", "", spread(ratios),
               f"one by one {statistics.median(alone):,.0f} events/s ± {spread(alone):.0%}"),
        Figure(f"rules, {kind}: one event", ms, "ms", f"< {TARGET_ONE_MS}", spread(single),
               f"one by one {statistics.median(single_plain):.3g} ms"),
    ]  # fmt: skip


def _worker(texts: Sequence[str]) -> AppWorker:
    rules = [spelled_out(Rule(f"r{n}", "readings", text, "alerts"), SOURCE) for n, text in enumerate(texts)]
    plan = plan_rules(RuleSet("readings").put(rules, now_ms=0), Catalog(1, {"readings": SOURCE}, {}), bind_rule)
    return AppWorker(plan, engine_of(plan), term=1, restored={}, settings=ProcessorSettings())


def _taken(events: int) -> PartitionInput:
    """Events as a cycle reads them: one batch."""
    chance = np.random.default_rng(7)
    devices, temperatures, humidities = (chance.integers(0, 25_000, events), chance.random(events) * 100,
                                         chance.random(events) * 100)  # fmt: skip
    sites = chance.integers(0, 50_000, events)
    lines = [
        msgspec.json.encode({"device": f"d{device}", "site": int(site), "temperature": round(float(t), 4),
                             "humidity": round(float(h), 4)})
        for device, site, t, h in zip(devices, sites, temperatures, humidities, strict=True)
    ]  # fmt: skip
    batch = Batch("readings", 0, 1, 0, events, Encoding.NDJSON_ZSTD, encode_lines(lines), None, None, None, 0)
    return PartitionInput("readings", 0, 0, 0, (batch,))


def _one_by_one(taken: PartitionInput, predicates: Sequence[Predicate], names: Sequence[str]) -> list[bytes]:
    """The same work, a rule at a time."""
    frame = RowDecoder(SOURCE.columns).decode(Lines.of(taken).text).frame
    made = []
    for predicate, name in zip(predicates, names, strict=True):
        rows = frame.filter(predicate(frame))
        if rows.height:
            made.append(encode_frame(rows.select(pl.lit(name).alias("rule"), pl.all())))
    return made


def _median_s(work: Callable[[], object], seconds: float) -> float:
    """Seconds of one call: the median of as many as fit, at least three."""
    taken: list[float] = []
    end_s = time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end_s:
        started_s = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started_s)
    return statistics.median(taken)


if __name__ == "__main__":
    raise SystemExit(main())
