"""Paths into JSON as Flink's SQL functions take them: `[lax | strict] $.a[0]['b c'][*]..d[1:3]`.

The semantics are those of the Jayway JsonPath library that Flink uses: without a word a path is strict; a definite
path has one value or none; one with *, .., slices or lists of indexes has an array, be it empty. Filters `[?(...)]`
and functions are not supported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from penstock.expressions.coercion import Mismatch
from penstock.expressions.json_text import read_json

__all__ = ["JsonPath", "json_path"]

Outcome = tuple[Literal["value", "empty", "error"], object]

_MODE = re.compile(r"\s*(strict|lax)\s+(.+)", re.IGNORECASE | re.DOTALL)
_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_STEP = re.compile(
    rf"""(?P<scan>\.\.)(?=[^.\s(])
      | \.?\[\s*(?P<all>\*)\s*\]
      | \.?\[\s*(?P<indexes>-?[0-9]{{1,9}}(?:\s*,\s*-?[0-9]{{1,9}})*)\s*\]
      | \.?\[\s*(?P<first>-?[0-9]{{1,9}})?\s*(?P<slice>:)\s*(?P<last>-?[0-9]{{1,9}})?\s*\]
      | \.?\[\s*(?P<names>{_QUOTED}(?:\s*,\s*{_QUOTED})*)\s*\]
      | \.(?P<any>\*)
      | \.(?P<name>[^.\[( \]*][^.\[( \]]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Step:
    """Names of members, indexes or a slice of an array, all of it (`*`), or all below (`..`)."""

    kind: Literal["names", "indexes", "slice", "all", "scan"]
    names: tuple[str, ...] = ()
    indexes: tuple[int, ...] = ()
    bounds: tuple[int | None, int | None] = (None, None)


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A path that was read."""

    strict: bool
    steps: tuple[Step, ...]

    @property
    def definite(self) -> bool:
        """True if it leads to one value at most."""
        return all(
            (step.kind == "names" and (len(step.names) == 1 or step is self.steps[-1]))
            or (step.kind == "indexes" and len(step.indexes) == 1)
            for step in self.steps
        )

    def find(self, text: str) -> Outcome:
        """("value", what is there), ("empty", None) or ("error", None): nothing there, or no JSON, is empty for a lax
        path and an error for a strict one; so is a null at the end of a definite path.
        """
        nothing: Outcome = ("error" if self.strict else "empty", None)
        try:
            document = read_json(text)
        except ValueError:
            return nothing
        if document is None:
            return "error", None
        try:
            found = self._walk(document)
        except RecursionError:
            return "error", None
        if found is None:
            return nothing if self.definite or self.strict else ("value", [])
        if not self.definite:
            return "value", found
        return ("value", found[0]) if found and found[0] is not None else nothing

    def _walk(self, document: object) -> list[object] | None:
        """Values at the end; None where the definite part in front leads nowhere."""
        nodes, definite = [document], True
        for i, step in enumerate(self.steps):
            last = i == len(self.steps) - 1
            if step.kind == "scan":
                nodes = [below for node in nodes for below in _below(node) if _fits(below, self.steps[i + 1])]
                definite = False
                continue
            found: list[object] = []
            for node in nodes:
                taken = _taken(node, step, last=last)
                if taken is None and definite:
                    return None
                found.extend(taken or [])
            nodes = found
            definite = definite and step.kind in ("names", "indexes") and len(step.names) + len(step.indexes) == 1
        return nodes


@lru_cache(maxsize=256)
def json_path(text: str) -> JsonPath:
    """The path that `text` says. Mismatch for one that is none, or that is not supported."""
    match = _MODE.fullmatch(text)
    strict = match is None or match[1].lower() == "strict"
    path = (text if match is None else match[2]).rstrip(" ")
    if path and path[0] not in "$@":
        path = "$." + path
    steps: list[Step] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise _refusal(path, at)
        steps.append(_step(found))
        at = found.end()
        if found["scan"] and path[at] != "[":
            at -= 1  # the name behind .. is read with one dot
    if not path or (steps and steps[-1].kind == "scan"):
        raise _refusal(path, 0)
    return JsonPath(strict, tuple(steps))


def _refusal(path: str, at: int) -> Mismatch:
    rest = path[at:]
    if rest.startswith(("[?", ".[?")) or "(" in rest:
        return Mismatch(f"takes paths without filters and functions, not '{path[:60]}'.",
                        "Take the array out with JSON_QUERY, and compare in SQL.")  # fmt: skip
    return Mismatch(f"cannot read the path '{path[:60]}'.", "Write '$.name[0]', or '$[''a name with blanks'']'.")


def _step(found: re.Match[str]) -> Step:
    if found["scan"]:
        return Step("scan")
    if found["all"] or found["any"]:
        return Step("all")
    if found["indexes"]:
        return Step("indexes", indexes=tuple(int(n) for n in found["indexes"].split(",")))
    if found["slice"]:
        return Step("slice", bounds=tuple(int(n) if n else None for n in (found["first"], found["last"])))  # type: ignore[arg-type]  # two of them
    if found["names"]:
        names = (name or other for name, other in _NAME.findall(found["names"]))
        return Step("names", names=tuple(re.sub(r"\\(.)", r"\1", name, flags=re.DOTALL) for name in names))
    return Step("names", names=(found["name"],))


def _taken(node: object, step: Step, *, last: bool) -> list[object] | None:
    """What a step takes of a node; None if the node has not the shape, or a member in mid-path is missing."""
    if step.kind == "all":
        return list(node.values()) if isinstance(node, dict) else list(node) if isinstance(node, list) else []
    if step.kind == "names":
        if not isinstance(node, dict):
            return None
        present = [name for name in step.names if name in node]
        if last and len(step.names) > 1:
            return [{name: node[name] for name in present}]
        return [node[name] for name in present] if present or last else None
    if not isinstance(node, list):
        return None
    if step.kind == "slice":
        return node[slice(*step.bounds)]
    return [node[i] for i in step.indexes if -len(node) <= i < len(node)]


def _below(node: object) -> list[object]:
    """The node and all below it, parents first."""
    found, waiting = [], [node]
    while waiting:
        current = waiting.pop()
        found.append(current)
        children = current.values() if isinstance(current, dict) else current if isinstance(current, list) else ()
        waiting.extend(reversed(list(children)))
    return found


def _fits(node: object, step: Step) -> bool:
    if step.kind == "names":
        return isinstance(node, dict) and all(name in node for name in step.names)
    if step.kind == "all":
        return True
    return isinstance(node, list)
