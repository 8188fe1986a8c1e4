"""Options of tables that are delivered to systems of others, and of sources that are fetched from them: read with
places, for `penstock check`. What each connector takes is in `penstock.outlets.options` and `penstock.feeds.options`;
here its refusals become findings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pydantic import BaseModel

from penstock.errors import SqlError, SqlErrors
from penstock.expressions.nodes import Span
from penstock.feeds.open import FEED_OPTIONS_OF_OURS
from penstock.feeds.options import FEEDS, read_feed_options
from penstock.model.stream import Relation, StreamSpec
from penstock.outlets.open import OUR_OPTIONS, has_outlet
from penstock.outlets.options import OUTLETS, OptionError, read_outlet_options
from penstock_processor.sql.findings import Findings, closest
from penstock_processor.sql.parse import parse_script
from penstock_processor.sql.statements import CreateTable, OptionText

__all__ = ["check_topics", "connector_of", "is_feed", "is_outlet", "read_feed", "read_outlet"]


def connector_of(written: tuple[OptionText, ...]) -> OptionText | None:
    """The option 'connector'."""
    return next((option for option in written if option.name == "connector"), None)


def is_outlet(written: tuple[OptionText, ...], relation: Relation) -> bool:
    """Whether rows of the table are delivered to a system of others."""
    connector = connector_of(written)
    return relation is not Relation.SOURCE and connector is not None and connector.value in OUTLETS


def is_feed(written: tuple[OptionText, ...], relation: Relation) -> bool:
    """Whether events of the source are fetched from a place of others."""
    connector = connector_of(written)
    return relation is Relation.SOURCE and connector is not None and connector.value in FEEDS


def read_feed(written: tuple[OptionText, ...], *, at: Span, findings: Findings) -> tuple[OptionText, ...]:
    """As `read_outlet`, for a source."""
    connector, theirs, ours = _divided(written, FEED_OPTIONS_OF_OURS, findings)
    found = read_feed_options(connector.value, {name: option.value for name, option in theirs.items()})
    if isinstance(found, list):
        _note(found, theirs, known=_names(FEEDS[connector.value], FEED_OPTIONS_OF_OURS), at=at, findings=findings)
    return ours


def read_outlet(
    written: tuple[OptionText, ...],
    *,
    at: Span,
    relation: Relation,
    columns: Collection[str],
    findings: Findings,
) -> tuple[OptionText, ...]:
    """Checks the connector's options and returns those that are Penstock's own, with 'connector'."""
    connector, theirs, ours = _divided(written, OUR_OPTIONS, findings)
    found = read_outlet_options(connector.value, {name: option.value for name, option in theirs.items()})
    if isinstance(found, list):
        _note(found, theirs, known=_names(OUTLETS[connector.value], OUR_OPTIONS), at=at, findings=findings)
    elif (why := found.unfit(is_table=relation is Relation.TABLE, columns=columns)) is not None:
        place = connector if why.name == "connector" else theirs.get(why.name, connector)
        findings.add(place.value_span, "bad_option", message=why.message, remedy=why.remedy)
    return ours


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


def _divided(
    written: tuple[OptionText, ...], of_ours: Collection[str], findings: Findings
) -> tuple[OptionText, Mapping[str, OptionText], tuple[OptionText, ...]]:
    """The connector, its options, and Penstock's own with the connector among them."""
    connector = connector_of(written)
    assert connector is not None, "see is_outlet and is_feed"
    theirs: dict[str, OptionText] = {}
    ours: list[OptionText] = []
    for option in written:
        if option.name in of_ours or option.name == "connector":
            ours.append(option)
        elif option.name in theirs:
            findings.add(
                option.span, "duplicate_option", message=f"Option '{option.name}' is given twice.",
                remedy="Keep one of them.",
            )  # fmt: skip
        else:
            theirs[option.name] = option
    return connector, theirs, tuple(ours)


def _note(
    wrongs: Iterable[OptionError], theirs: Mapping[str, OptionText], *, known: Iterable[str], at: Span,
    findings: Findings,
) -> None:  # fmt: skip
    for wrong in wrongs:
        place = theirs.get(wrong.name)
        if place is None:
            code = "missing_option" if wrong.missing else "bad_option"
            findings.add(at, code, message=wrong.message, remedy=wrong.remedy)
        elif wrong.unknown:
            remedy = closest(wrong.name, known, otherwise=wrong.remedy)
            findings.add(place.span, "unknown_option", message=wrong.message, remedy=remedy)
        else:
            findings.add(place.value_span, "bad_option", message=wrong.message, remedy=wrong.remedy)


def _names(model: type[BaseModel], of_ours: Collection[str]) -> list[str]:
    """Names of options, Penstock's own among them."""
    return [field.alias or name for name, field in model.model_fields.items()] + sorted(of_ours)
