"""Every aggregate function: usage, meaning, and where it may stand, as the binder has it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.errors import SqlErrors
from penstock.expressions.nodes import NOWHERE
from penstock_processor.logical.aggregate_calls import RETRACTABLE, matters
from penstock_processor.logical.bind_over import OVER_FUNCTIONS
from penstock_processor.logical.match_expressions import PATTERN_AGGREGATES

__all__ = ["AGGREGATE_NOTES", "AggregateNote", "places_of_aggregate", "takes_distinct"]


@dataclass(frozen=True, slots=True)
class AggregateNote:
    """What a reader is told. `usage` without DISTINCT and FILTER; `in_flink`: whether Flink's streams have it."""

    usage: str
    meaning: str
    in_flink: bool = True


#: name -> note, in the order of the page. Figures of sketches: DataSketches, for the sizes in `operators.sketches`.
AGGREGATE_NOTES: dict[str, AggregateNote] = {
    "COUNT": AggregateNote("COUNT(*), COUNT(x)", "How many rows; how many that are not NULL."),
    "SUM": AggregateNote("SUM(x)", "The sum."),
    "AVG": AggregateNote("AVG(x)", "The mean; of integers cut to an integer, as in Flink."),
    "MIN": AggregateNote("MIN(x)", "The least."),
    "MAX": AggregateNote("MAX(x)", "The greatest."),
    "STDDEV_POP": AggregateNote("STDDEV_POP(x)", "Standard deviation of all."),
    "STDDEV_SAMP": AggregateNote("STDDEV_SAMP(x)", "Standard deviation of a sample."),
    "STDDEV": AggregateNote("STDDEV(x)", "As STDDEV_SAMP."),
    "VAR_POP": AggregateNote("VAR_POP(x)", "Variance of all."),
    "VAR_SAMP": AggregateNote("VAR_SAMP(x)", "Variance of a sample."),
    "VARIANCE": AggregateNote("VARIANCE(x)", "As VAR_SAMP."),
    "FIRST_VALUE": AggregateNote("FIRST_VALUE(x)", "The value that arrived first."),
    "LAST_VALUE": AggregateNote("LAST_VALUE(x)", "The value that arrived last."),
    "LISTAGG": AggregateNote(
        "LISTAGG(x [, separator])", "Texts in the order of their arrival, `,` or the separator between them."
    ),
    "COLLECT": AggregateNote("COLLECT(x)", "How often each value is there, as `MAP<t, INT>`."),
    "ARRAY_AGG": AggregateNote("ARRAY_AGG(x)", "The values in the order of their arrival, with NULL."),
    "PERCENTILE": AggregateNote(
        "PERCENTILE(x, p [, frequency])",
        "Exact, 0 ≤ p ≤ 1, in proportion between two values; p may be an `ARRAY[...]`.",
    ),
    "APPROX_COUNT_DISTINCT": AggregateNote(
        "APPROX_COUNT_DISTINCT(x)", "An estimate, 1.6 % standard error, 4 KB a group.", in_flink=False
    ),
    "APPROX_QUANTILE": AggregateNote(
        "APPROX_QUANTILE(x, q)",
        "A value that about a share q does not exceed, 1.3 % of the rank, 5 KB a group.",
        in_flink=False,
    ),
    "APPROX_TOP_K": AggregateNote(
        "APPROX_TOP_K(x, k)",
        "The k most frequent values with their counts, as `ARRAY<ROW<value, count>>`; none with more than 0.5 % is "
        "missed, 1,024 counters a group.",
        in_flink=False,
    ),
}


def takes_distinct(name: str) -> bool:
    """Whether DISTINCT changes what it gives."""
    try:
        return matters(name, at=NOWHERE)
    except SqlErrors:  # DISTINCT has no meaning there
        return False


def places_of_aggregate(name: str) -> list[str]:
    """Where it may stand beside windows and groups: over rows that change, in OVER, in MATCH_RECOGNIZE."""
    places = (
        ("rows that change", name in RETRACTABLE),
        ("OVER", name in OVER_FUNCTIONS),
        ("MATCH_RECOGNIZE", name in PATTERN_AGGREGATES),
    )
    return [place for place, stands in places if stands]
