"""`authorization_details`: which topics and rows they grant, and that nothing half understood is taken."""

from __future__ import annotations

import pytest

from penstock.http.access import NOTHING, Principal
from penstock.http.authorization_details import TopicGrant, matches_topic, read_authorization_details
from penstock.http.settings import TokenLimits

LIMITS = TokenLimits(details_max=3, detail_topics_max=3, detail_filter_chars_max=40)


def principal(scope: str, *details: TopicGrant) -> Principal:
    return Principal("s", "c", frozenset(scope.split()), 0.0, "t", details)


def reading(*topics: str, where: str | None = None) -> TopicGrant:
    return TopicGrant(frozenset({"read"}), topics, where)


@pytest.mark.parametrize(
    ("pattern", "topic", "fits"),
    [
        ("orders", "orders", True),
        ("orders", "orders2", False),
        ("vehicle.*", "vehicle.position", True),
        ("vehicle.*", "vehicle.", True),
        ("vehicle.*", "vehicles", False),
        ("*", "anything", True),
        ("*.eu.*", "a.eu.b", True),
        ("*.eu.*", "a.us.b", False),
        ("a*a", "a", False),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "aXcYb", False),
        ("a*bc*c", "abc", False),
        ("v?hicle", "vehicle", False),
        ("[a-z]", "a", False),
    ],
)
def test_a_star_stands_for_any_characters_and_nothing_else_is_special(pattern, topic, fits):
    assert matches_topic(pattern, topic) is fits


def test_entries_are_read_and_those_of_other_types_are_passed_over():
    entries = [
        {"type": "payment", "amount": {"value": 7}},
        {"type": "penstock", "actions": ["read"], "topics": ["orders", "vehicle.*"], "filter": "region = 'EU'"},
    ]
    assert read_authorization_details(entries, LIMITS) == (reading("orders", "vehicle.*", where="region = 'EU'"),)
    assert read_authorization_details(None, LIMITS) == ()


@pytest.mark.parametrize(
    "claim",
    [
        {},
        "penstock",
        [1],
        [{}],
        [{"type": 7}],
        [{"type": "x"}] * 4,
        [{"type": "penstock"}],
        [{"type": "penstock", "actions": ["read"]}],
        [{"type": "penstock", "actions": [], "topics": ["a"]}],
        [{"type": "penstock", "actions": ["delete"], "topics": ["a"]}],
        [{"type": "penstock", "actions": "read", "topics": ["a"]}],
        [{"type": "penstock", "actions": ["read"], "topics": "a"}],
        [{"type": "penstock", "actions": ["read"], "topics": [""]}],
        [{"type": "penstock", "actions": ["read"], "topics": ["a", "b", "c", "d"]}],
        [{"type": "penstock", "actions": ["read"], "topics": ["a"], "filter": 1}],
        [{"type": "penstock", "actions": ["read"], "topics": ["a"], "filter": " "}],
        [{"type": "penstock", "actions": ["read"], "topics": ["a"], "filter": "x" * 41}],
        [{"type": "penstock", "actions": ["read"], "topics": ["a"], "columns": ["n"]}],
    ],
    ids=str,
)
def test_what_is_not_understood_to_the_last_member_is_refused(claim):
    with pytest.raises(ValueError, match="authorization_details"):
        read_authorization_details(claim, LIMITS)


@pytest.mark.parametrize(
    ("who", "topic", "allowed", "filter_"),
    [
        (principal("orders:read"), "orders", True, None),
        (principal(""), "orders", False, NOTHING),
        (principal("", reading("orders")), "orders", True, None),
        (principal("", reading("orders", where="a = 1")), "orders", True, "(a = 1)"),
        (principal("", reading("orders", where="a = 1"), reading("o*", where="b = 2")), "orders", True,
         "(a = 1) OR (b = 2)"),
        (principal("", reading("orders", where="a = 1"), reading("lots", where="b = 2")), "orders", True, "(a = 1)"),
        (principal("", reading("orders", where="a = 1"), reading("*")), "orders", True, None),
        (principal("orders:read", reading("orders", where="a = 1")), "orders", True, None),
        (principal("*:read", reading("orders", where="a = 1")), "orders", True, None),
        (principal("lots:read", reading("orders", where="a = 1")), "orders", True, "(a = 1)"),
        (principal("", TopicGrant(frozenset({"write"}), ("orders",))), "orders", False, NOTHING),
    ],
)  # fmt: skip
def test_details_grant_topics_and_their_filters_are_alternatives(who, topic, allowed, filter_):
    assert who.allows(f"{topic}:read") is allowed
    assert (who.filter_for(topic) or None) == (f"({filter_})" if filter_ == NOTHING else filter_)


def test_a_pattern_for_all_topics_grants_no_scope_that_is_none_of_a_topic():
    who = principal("", TopicGrant(frozenset({"read", "write"}), ("*",)))
    for scope in ("data:read", "data:query", "ingest:write", "apps:admin", "applications:write", "orders:write", "*"):
        assert not who.allows(scope)
    assert who.allows("orders:read")


@pytest.mark.parametrize(
    ("who", "may"),
    [
        (principal("ingest:write"), True),
        (principal("", TopicGrant(frozenset({"write"}), ("ord*",))), True),
        (principal("", TopicGrant(frozenset({"write"}), ("ord*",), "a = 1")), False),
        (principal("", reading("orders")), False),
        (principal("*:read apps:admin"), False),
    ],
)
def test_writing_is_granted_by_name_and_never_with_a_filter(who, may):
    assert who.may_write("orders") is may


def test_a_topic_with_a_scope_of_its_own_is_not_opened_by_its_name():
    who = principal("", reading("orders"))
    assert not who.allows("fleet")
    assert not who.allows("fleet:read")
    assert who.row_filters("fleet:read") == (NOTHING,)


def test_only_who_is_granted_some_rows_is_confined():
    assert principal("", reading("orders", where="a = 1")).confined("orders:read")
    assert not principal("", reading("orders", where="a = 1"), reading("orders")).confined("orders:read")
    assert not principal("*:read", reading("orders", where="a = 1")).confined("orders:read")
    assert not principal("").confined("orders:read")
