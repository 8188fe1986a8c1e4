"""docs/sql.md: prose of `pages/sql.md`, and what the code knows in place of its `{{names}}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from penstock.expressions.functions import FAMILIES, FUNCTIONS
from penstock.expressions.settings import ExpressionSettings
from penstock.feeds.options import FEEDS
from penstock.lookups.options import LOOKUPS
from penstock.outlets.options import OUTLETS
from penstock_processor.logical.kafka_options import KAFKA_OPTIONS
from penstock_processor.logical.options import KNOWN
from penstock_processor.logical.settings import OF_A_CLUSTER, PARALLELISM_MAX, SETTINGS
from penstock_processor.reference.aggregates import AGGREGATE_NOTES, places_of_aggregate, takes_distinct
from penstock_processor.reference.codes import CODES
from penstock_processor.reference.query_forms import PRELUDE, QUERY_FORMS, facts_of
from penstock_processor.reference.types import TYPE_NOTES
from penstock_processor.sql.limits import SqlLimits

__all__ = ["sql_page"]

_PLACE = re.compile(r"\{\{([a-z_.]+)\}\}")
_LIMITS = (ExpressionSettings, SqlLimits)


def sql_page() -> str:
    """Markdown. KeyError for a name in the template that nothing fills, ValueError for a part that stands nowhere."""
    template = files("penstock_app").joinpath("pages", "sql.md").read_text(encoding="utf-8")
    wanted = set(_PLACE.findall(template))
    if missing := set(_PARTS) - wanted:
        raise ValueError(f"pages/sql.md has no place for {', '.join(sorted(missing))}")
    values = {name: part() for name, part in _PARTS.items()} | _numbers()
    return _PLACE.sub(lambda place: values[place[1]], template)


def _types() -> str:
    return _table(("type", "in JSON"), [(f"`{note.usage}`", note.json) for note in TYPE_NOTES.values()])


def _functions() -> str:
    rows = [
        (_linked(title), str(len(entries)), _some_names([e.name for e in entries]))
        for title, entries in FAMILIES.items()
    ]
    return _table(("group", "entries", "such as"), rows)


def _aggregates() -> str:
    rows = []
    for name, note in AGGREGATE_NOTES.items():
        places = ", ".join(places_of_aggregate(name))
        meaning = note.meaning if note.in_flink else f"{note.meaning} Not in Flink's streams."
        rows.append((f"`{note.usage}`", meaning, "yes" if takes_distinct(name) else "", places))
    return _table(("function", "gives", "`DISTINCT`", "also over"), rows)


def _query_forms() -> str:
    rows = []
    for form in QUERY_FORMS:
        facts = facts_of(form)
        target = f"<br>into `PRIMARY KEY ({form.key})`" if form.key else ""
        options = f", `{form.options}`" if form.options else ""
        rows.append(
            (
                form.name,
                f"`{form.query}`{target}{options}",
                "change" if facts.changes else "stay",
                "yes" if facts.parallel else "no",
                "yes" if form.in_flink else "no",
            )
        )
    return _table(("query", "example", "its rows", "shared by tasks", "in Flink"), rows)


def _options() -> str:
    on = {"any": "", "source": "sources", "derived": "tables that are written to"}
    return _table(
        ("option", "of", "meaning"), [(f"`{name}`", on[option.on], option.meaning) for name, option in KNOWN.items()]
    )


def _connector_options() -> str:
    kinds: tuple[tuple[str, Mapping[str, type[BaseModel]]], ...] = (
        ("source", FEEDS),
        ("looked up", LOOKUPS),
        ("written to", OUTLETS),
    )
    having: dict[tuple[str, ...], list[str]] = {}  # an option with its meaning -> connectors
    for name, meaning in KAFKA_OPTIONS.items():
        having.setdefault(("source", f"`{name}`", "", meaning), []).append("kafka")
    for kind, connectors in kinds:
        for connector, model in connectors.items():
            for key, field in model.model_fields.items():
                if key != "connector":
                    option = (kind, f"`{field.alias or key}`", _default(field), field.description or "")
                    having.setdefault(option, []).append(connector)
    rows = [(", ".join(f"`{name}`" for name in names), *option) for option, names in having.items()]
    return _table(("connector", "as", "option", "default", "meaning"), rows)


def _settings() -> str:
    return _table(("setting", "meaning"), [(f"`{name}`", meaning) for name, meaning in SETTINGS.items()])


def _codes() -> str:
    return _table(("code", "when"), [(f"`{code}`", meaning) for code, meaning in CODES.items()])


def _limits() -> str:
    rows = []
    for model in _LIMITS:
        for field in model.model_fields.values():
            rows.append((field.description or "", f"{field.default:,}"))
    return _table(("limit", "value"), rows)


_PARTS: Mapping[str, Callable[[], str]] = {
    "types": _types,
    "functions": _functions,
    "functions_count": lambda: str(len(FUNCTIONS)),
    "aggregates": _aggregates,
    "query_forms": _query_forms,
    "prelude": PRELUDE.strip,
    "options": _options,
    "connector_options": _connector_options,
    "settings": _settings,
    "cluster_settings": lambda: ", ".join(f"`{start}`" for start in OF_A_CLUSTER),
    "codes": _codes,
    "limits": _limits,
    "parallelism_max": lambda: str(PARALLELISM_MAX),
}


def _numbers() -> dict[str, str]:
    """`limit.<field>`: a limit's default, for prose."""
    return {f"limit.{key}": f"{field.default:,}" for model in _LIMITS for key, field in model.model_fields.items()}


def _linked(title: str) -> str:
    anchor = re.sub(r"[^a-z -]", "", title.lower()).replace(" ", "-")
    return f"[{title}](functions.md#{anchor})"


def _some_names(names: list[str]) -> str:
    shown = [f"`{name}`" for name in names if re.fullmatch(r"[A-Z_0-9]+", name)]
    return ", ".join(shown or [f"`{name}`" for name in names])


def _default(field: FieldInfo) -> str:
    """In the text's form: seconds with their unit, as they are written in WITH."""
    if field.is_required():
        return "needed"
    value = field.default
    if value is None or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g} s`" if isinstance(value, float) else f"`{value}`"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)
