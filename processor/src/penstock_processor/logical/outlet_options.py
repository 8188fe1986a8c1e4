"""Options of tables that are written to and delivered to systems of others: read with places, for `penstock check`.

What each connector takes is in `penstock.outlets.options`; here its refusals become findings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from penstock.errors import SqlError, SqlErrors
from penstock.expressions.nodes import Span
from penstock.model.stream import Relation, StreamSpec
from penstock.outlets.open import OUR_OPTIONS, has_outlet
from penstock.outlets.options import OUTLETS, read_outlet_options
from penstock_processor.sql.findings import Findings, closest
from penstock_processor.sql.parse import parse_script
from penstock_processor.sql.statements import CreateTable, OptionText

__all__ = ["check_topics", "connector_of", "is_outlet", "read_outlet"]


def connector_of(written: tuple[OptionText, ...]) -> OptionText | None:
    """The option 'connector'."""
    return next((option for option in written if option.name == "connector"), None)


def is_outlet(written: tuple[OptionText, ...], relation: Relation) -> bool:
    """Whether rows of the table are delivered to a system of others."""
    connector = connector_of(written)
    return relation is not Relation.SOURCE and connector is not None and connector.value in OUTLETS


def read_outlet(
    written: tuple[OptionText, ...],
    *,
    at: Span,
    relation: Relation,
    columns: Collection[str],
    findings: Findings,
) -> tuple[OptionText, ...]:
    """Checks the connector's options and returns those that are Penstock's own, with 'connector'."""
    connector = connector_of(written)
    assert connector is not None, "see is_outlet"
    theirs: dict[str, OptionText] = {}
    ours: list[OptionText] = []
    for option in written:
        if option.name in OUR_OPTIONS or option.name == "connector":
            ours.append(option)
        elif option.name in theirs:
            findings.add(
                option.span, "duplicate_option", message=f"Option '{option.name}' is given twice.",
                remedy="Keep one of them.",
            )  # fmt: skip
        else:
            theirs[option.name] = option
    found = read_outlet_options(connector.value, {name: option.value for name, option in theirs.items()})
    if isinstance(found, list):
        for wrong in found:
            known = theirs.get(wrong.name)
            if known is None:
                findings.add(at, "missing_option" if wrong.missing else "bad_option", message=wrong.message,
                             remedy=wrong.remedy)  # fmt: skip
            elif wrong.unknown:
                remedy = closest(wrong.name, _names(connector.value), otherwise=wrong.remedy)
                findings.add(known.span, "unknown_option", message=wrong.message, remedy=remedy)
            else:
                findings.add(known.value_span, "bad_option", message=wrong.message, remedy=wrong.remedy)
    elif (why := found.unfit(is_table=relation is Relation.TABLE, columns=columns)) is not None:
        place = connector if why.name == "connector" else theirs.get(why.name, connector)
        findings.add(place.value_span, "bad_option", message=why.message, remedy=why.remedy)
    return tuple(ours)


def check_topics(sql: str, specs: Collection[StreamSpec], brokers: Collection[str]) -> None:
    """SqlErrors if rows would be delivered into a topic in which the log (on these brokers) keeps a stream itself."""
    names = {spec.name for spec in specs} if brokers else frozenset[str]()
    delivered = {spec.name for spec in specs if has_outlet(spec) and spec.options.get("topic") in names}
    errors = []
    for statement in parse_script(sql).statements if delivered else ():
        if not isinstance(statement, CreateTable) or statement.name.text not in delivered:
            continue
        named = {option.name: option for option in statement.options}
        servers = {server.strip() for server in named["properties.bootstrap.servers"].value.split(",")}
        if servers & set(brokers):
            place, topic = named["topic"].value_span, named["topic"].value
            message = f"The log keeps stream '{topic}' in the topic of this name on these brokers."
            remedy = "Name another topic; or write 'connector' = 'penstock': such a table is a topic of the log."
            errors.append(SqlError(place.line, place.column, "bad_option", message, remedy))
    if errors:
        raise SqlErrors(errors)


def _names(connector: str) -> Mapping[str, object]:
    """Names of options, Penstock's own among them."""
    fields = OUTLETS[connector].model_fields
    return {field.alias or name: field for name, field in fields.items()} | dict.fromkeys(OUR_OPTIONS)
