"""Lines of subscribers without sockets: what is read, what is refused, and what a reply says."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from publish.conftest import CLICKS

from penstock.errors import PenstockError
from penstock_publish.topics.lines import (
    Ack,
    Auth,
    BadLine,
    Credit,
    Rate,
    Sub,
    Unsub,
    lines_of,
    read_line,
    refusal,
    reply,
)
from penstock_publish.topics.pub_body import body_of


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"auth":"a.b.c"}', Auth("a.b.c")),
        ('{"id":1,"sub":"orders"}', Sub("orders", 1)),
        (
            '{"id":"x","sub":"orders","filter":"n > 1","after":"earliest","format":"raw","slow":"close","credit":0,'
            '"durable":"mine"}',
            Sub("orders", "x", "n > 1", "earliest", "raw", "close", 0, "mine"),
        ),
        ('{"unsub":"orders"}', Unsub("orders")),
        ('{"ack":"abc","t":"orders"}', Ack("abc", "orders")),
        ('  {"credit":5}\r', Credit(5)),
    ],
)
def test_every_line_is_read_strictly_into_its_own_kind(text, line):
    assert read_line(text) == line


@pytest.mark.parametrize(
    ("text", "line_id", "says"),
    [
        ("hello", None, "a line is a JSON object"),
        ("[1]", None, "a line is a JSON object"),
        ("null", None, "a line is a JSON object"),
        ("[" * 100_000, None, "a line is a JSON object"),
        ('{"id":7}', 7, "a line has one of"),
        ('{"id":7,"sub":"orders","fliter":"n > 1"}', 7, "fliter"),
        ('{"id":7,"sub":1}', 7, "str"),
        ('{"id":7,"sub":""}', 7, "length"),
        ('{"id":7,"sub":"orders","unsub":"orders"}', 7, "unsub"),
        ('{"id":"a","credit":0}', "a", ">= 1"),
        ('{"id":"a","credit":-1}', "a", ">= 1"),
        ('{"id":"a","credit":1.5}', "a", "int"),
        ('{"id":"a","credit":true}', "a", "int"),
        ('{"id":[1],"unsub":"orders"}', None, "id"),
        ('{"id":"' + "x" * 65 + '","unsub":"orders"}', None, "id"),
        ('{"id":1,"ack":null}', 1, "str"),
        ('{"id":1,"auth":{}}', 1, "str"),
    ],
)
def test_what_is_no_line_is_refused_with_its_id_where_it_has_one(text, line_id, says):
    with pytest.raises(BadLine) as refused:
        read_line(text)
    assert (refused.value.id, refused.value.code) == (line_id, "bad_request")
    assert says in refused.value.detail


def test_a_refused_line_is_never_repeated_because_there_may_be_a_token_in_it():
    for text in ('{"auth":"secret","x":1}', '{"auth":["secret"]}', '{"aut":"secret"}', 'auth "secret"'):
        with pytest.raises(BadLine) as refused:
            read_line(text)
        assert "secret" not in refused.value.detail


def read_or_refused(text):
    try:
        read_line(text)
    except BadLine as error:
        return refusal(error, error.id)["err"]
    return "read"


@given(st.text())
def test_any_text_is_a_line_or_refused(text):
    for one in lines_of(text):
        assert read_or_refused(one) in ("read", "bad_request")


_LINE_LIKE = st.dictionaries(
    st.sampled_from(["id", "sub", "unsub", "ack", "credit", "auth", "pub", "d", "t", "filter", "after", "durable"]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=2),
)


@given(_LINE_LIKE)
def test_objects_that_look_like_lines_are_lines_or_refused(members):
    text = json.dumps(members)
    if read_or_refused(text) == "read":
        assert read_line(text).id == members.get("id")


CLICKS_OF_AN_ID = replace(CLICKS, dedupe=("id",))


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ('"d":{"n":1.50},"idem":"u"', '{"n":1.50,"id":"u"}'),
        ('"d":{"n":1,"id":"u"},"idem":"u","key":"u"', '{"n":1,"id":"u"}'),
        (r'"d":{},"key":"a\"b"', r'{"id":"a\"b"}'),
    ],
    ids=str,
)
def test_idem_and_key_are_written_into_the_event(line, event):
    assert body_of(read_line(f'{{"pub":"clicks",{line}}}'), CLICKS_OF_AN_ID).decode() == event


@pytest.mark.parametrize(
    ("line", "spec"),
    [
        ({"d": [{}], "idem": "u"}, CLICKS_OF_AN_ID),
        ({"d": 5, "idem": "u"}, CLICKS_OF_AN_ID),
        ({"d": {"id": "v"}, "idem": "u"}, CLICKS_OF_AN_ID),
        ({"d": {"id": 1}, "idem": "1"}, CLICKS_OF_AN_ID),
        ({"d": {}, "idem": "u", "key": "v"}, CLICKS_OF_AN_ID),
        ({"d": {}, "idem": "u"}, CLICKS),
        ({"d": {}, "idem": "u"}, replace(CLICKS, dedupe=("id", "n"))),
        ({"d": {}, "key": "u"}, replace(CLICKS, key=("n",))),
    ],
    ids=str,
)
def test_what_idem_and_key_cannot_mean_is_refused(line, spec):
    with pytest.raises(PenstockError) as refused:
        body_of(read_line(json.dumps({"pub": "clicks", **line})), spec)
    assert refused.value.code == "bad_request"


def test_a_frame_may_hold_several_lines():
    assert list(lines_of('{"a":1}\n\n  \r\n{"b":2}\r\n')) == ['{"a":1}', '{"b":2}\r']


def test_replies_name_the_line_and_say_whether_to_send_it_again():
    assert reply(3, exp=5) == {"id": 3, "ok": True, "exp": 5}
    assert reply(None) == {"ok": True}
    assert refusal(PenstockError("unknown_topic", "no"), "a") == {
        "id": "a", "err": "unknown_topic", "detail": "no", "retry": False,
    }  # fmt: skip
    assert refusal(PenstockError("draining", "no", retry_after_s=1.5), None) == {
        "err": "draining", "detail": "no", "retry": True, "retry_ms": 1500,
    }  # fmt: skip


def test_so_many_lines_a_second_at_once_and_then_one_after_the_other():
    rate = Rate(4, 100.0)
    assert [rate.take(100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 0.25]
    assert rate.take(100.25) == 0.25
    assert rate.take(101.0) == 0.0
    assert [rate.take(200.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 0.25]
