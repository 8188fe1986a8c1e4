"""JSONTestSuite at the edge (RFC 8259): what must be accepted is, what must be refused is, the process lives."""

from __future__ import annotations

import codecs
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ingest_edge import Edge

Need = Callable[[str, bool, str], None]

Cases = dict[str, list[tuple[str, bytes]]]


@pytest.fixture(scope="module")
def cases(shared_data: Path, need: Need) -> Cases:
    """(name, text) of the texts that must be accepted (`y`), must be refused (`n`) or may be either (`i`)."""
    archive = shared_data / "json_test_suite.tar.gz"
    need("data", archive.exists(), "set PENSTOCK_SHARED to the folder that holds data/json_test_suite.tar.gz")
    found: Cases = {"y": [], "n": [], "i": []}
    with tarfile.open(archive) as members:
        for member in members:
            name = Path(member.name).name
            content = members.extractfile(member) if member.isfile() else None
            if content is not None and name[:2] in ("y_", "n_", "i_"):
                found[name[0]].append((name, content.read()))
    return {verdict: sorted(texts) for verdict, texts in found.items()}


def test_the_suite_is_complete(cases: Cases) -> None:
    assert [len(cases[verdict]) for verdict in "yni"] == [95, 188, 35]


async def test_every_valid_text_is_accepted_inside_an_event(edge: Edge, cases: Cases) -> None:
    for number, (name, text) in enumerate(cases["y"]):
        event = b'{"id":"%d","ts":0,"x":%s}' % (number, text)
        status, reply = await edge.post(event)
        assert (status, reply.get("accepted")) == (200, 1), name
    one_a_line = [b'{"id":"line %d","ts":0,"x":%s}' % (n, text) for n, (_, text) in enumerate(cases["y"])
                  if b"\n" not in text and b"\r" not in text]  # fmt: skip
    status, reply = await edge.lines(b"\n".join(one_a_line))
    assert (status, reply["accepted"], reply["rejected"]) == (200, len(one_a_line), 0)


async def test_every_invalid_text_is_refused_inside_an_event(edge: Edge, cases: Cases) -> None:
    for name, text in cases["n"]:
        event = b'{"id":"1","ts":0,"x":' + text + b"}"
        status, reply = await edge.post(event)
        assert (status, reply["code"]) == (400, "bad_json"), name
        status, reply = await edge.post(b"[" + event + b"]")
        assert (status, reply["code"]) == (400, "bad_json"), name
        status, reply = await edge.lines(event)
        assert (status, reply["accepted"]) == (422, 0), name
        if b"\n" not in text:
            assert [error["code"] for error in reply["errors"]] == ["bad_json"], name
    assert await edge.stored() == []
    assert (await edge.post(b'{"id":"1","ts":0}'))[0] == 200


async def test_an_invalid_line_among_good_ones_is_the_only_one_refused(edge: Edge, cases: Cases) -> None:
    texts = [(name, text) for name, text in cases["n"] if b"\n" not in text and b"\r" not in text]
    for number, (name, text) in enumerate(texts):
        good = [b'{"id":"%d %d","ts":0}' % (number, place) for place in range(2)]
        bad = b'{"id":"x","ts":0,"x":' + text + b"}"
        status, reply = await edge.lines(b"\n".join([good[0], bad, good[1]]))
        assert (status, reply["accepted"], reply["rejected"]) == (207, 2, 1), name
        assert [error["index"] for error in reply["errors"]] == [1], name


async def test_every_invalid_text_is_refused_as_a_whole_body(edge: Edge, cases: Cases) -> None:
    for name, text in cases["n"]:
        status, reply = await edge.post(text)
        assert status == 400 and reply["code"] in ("bad_json", "bad_request"), name
        status, reply = await edge.post(text, kind=None)
        assert 400 <= status < 500, name
        status, reply = await edge.lines(text)
        has_line = text.removeprefix(codecs.BOM_UTF8).strip() != b""
        assert (status, reply["accepted"]) == ((422, 0) if has_line else (200, 0)), name
    assert await edge.stored() == []


async def test_every_valid_text_as_a_whole_body_is_judged_as_an_event_not_as_json(edge: Edge, cases: Cases) -> None:
    for name, text in cases["y"]:
        status, reply = await edge.post(text)
        if text.strip() == b"[]":
            assert status == 200, name
        elif text.strip()[:1] in (b"{", b"["):
            assert status == 422 and reply["errors"][0]["code"] != "bad_json", name
        else:
            assert (status, reply["code"]) == (400, "bad_request"), name


async def test_either_is_allowed_for_the_rest_and_the_process_lives(edge: Edge, cases: Cases) -> None:
    for number, (name, text) in enumerate(cases["i"]):
        for body in (b'{"id":"%d","ts":0,"x":' % number + text + b"}", text):
            for send in (edge.post, edge.lines):
                status, _ = await send(body)
                assert status in (200, 400, 422), name
                if b"UTF-8" in name.encode() and "BOM" not in name:
                    assert status != 200, name
    assert (await edge.post(b'{"id":"alive","ts":0}'))[1]["accepted"] == 1
