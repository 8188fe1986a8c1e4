"""Where the engine's result differs from Flink's: the rule of what is the same."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from typing import Any

from golden.golden_engine import Given

__all__ = ["function_differences", "query_differences"]

#: DOUBLE is compared relative to its size: sums depend on the order of their rows.
_RELATIVE = 1e-12


def function_differences(flink: dict[str, Any], given: Given) -> dict[str | int, str]:
    """Place -> what differs there. Places: `refused` (by the engine alone), `accepted` (by the engine alone), `type`,
    the number of a row. A row for which Flink's job fails is the same as a row that is rejected."""
    found = _acceptance(flink, given)
    if found or given.refused is not None:
        return found
    kind = _type(flink["type"])
    if flink["type"] != "unknown" and kind != given.columns[0][1]:
        found["type"] = f"{flink['type']} in Flink, {given.columns[0][1]} here"
    for row, (theirs, ours) in enumerate(zip(flink["values"], given.rows, strict=True), 1):
        if not _same(theirs, ours, kind):
            found[row] = f"{theirs!r} in Flink, {ours!r} here"
    return found


def query_differences(flink: dict[str, Any], given: Given) -> dict[str | int, str]:
    """As for functions; `rows` stands for all rows, which have no order."""
    found = _acceptance(flink, given)
    if found or given.refused is not None:
        return found
    theirs = [(name, _type(kind)) for name, kind in flink["columns"]]
    if theirs != given.columns:
        found["type"] = f"{theirs} in Flink, {given.columns} here"
    kinds = [kind for _, kind in theirs]
    one, other = sorted(flink["rows"], key=_rough), sorted(given.rows, key=_rough)
    same = len(one) == len(other) and all(
        len(a) == len(b) and all(map(_same, a, b, kinds)) for a, b in zip(one, other, strict=True)
    )
    if not same:
        found["rows"] = f"\n{_shown(one)}\nin Flink,\n{_shown(other)}\nhere"
    return found


def _acceptance(flink: dict[str, Any], given: Given) -> dict[str | int, str]:
    if ("refused" in flink) == (given.refused is not None):
        return {}
    if given.refused is not None:
        return {"refused": given.refused}
    return {"accepted": f"Flink says: {flink['refused']}"}


def _type(flink: str) -> str:
    """A type of Flink as Penstock names it: no lengths, no nullability, no time attributes; times in milliseconds."""
    plain = re.sub(r" NOT NULL| \*\w+\*", "", flink)
    plain = re.sub(r"\bMULTISET<(\w+)>", r"MAP<\1, INT>", plain)
    plain = re.sub(r"\b(VAR)?CHAR\(\d+\)", "STRING", plain)
    plain = re.sub(r"\b(VAR)?BINARY\(\d+\)", "BYTES", plain)
    plain = re.sub(r"\bTIME\(\d\)", "TIME", plain)
    return re.sub(r"\b(TIMESTAMP(_LTZ)?)\(\d\)", r"\1(3)", plain)


def _same(theirs: Any, ours: Any, kind: str) -> bool:
    if isinstance(theirs, dict) or isinstance(ours, dict):
        return isinstance(theirs, dict) and isinstance(ours, dict)
    if isinstance(theirs, float | int) and isinstance(ours, float):
        if kind == "FLOAT":
            return struct.pack("f", theirs) == struct.pack("f", ours)
        return theirs == ours or math.isclose(theirs, ours, rel_tol=_RELATIVE)
    return type(theirs) is type(ours) and bool(theirs == ours)


def _rough(row: Sequence[Any]) -> str:
    return repr([f"{value:.9g}" if isinstance(value, float) else value for value in row])


def _shown(rows: Sequence[Any]) -> str:
    return "\n".join(map(repr, rows))
