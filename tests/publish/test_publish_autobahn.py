"""The WebSocket edge against Autobahn's cases: an echo on the same reader, writer and limits as subscribers have."""

import asyncio
import zlib
from collections.abc import AsyncIterator

import pytest
from multidict import CIMultiDict
from publish.autobahn_cases import BINARY, CLOSE, TEXT, Case, all_cases, client_frame
from publish.raw_client import HANDSHAKE, Client, code_of
from publish.websocket_echo import echo_edge

from penstock.errors import PenstockError
from penstock_publish.topics.upgrade import shake_hands

CASES = all_cases()
HELLO = b"Hello, world!"
DEFLATE = "permessage-deflate"


@pytest.fixture
async def port(request) -> AsyncIterator[int]:
    """Parametrize indirectly with a dict to change settings."""
    async with echo_edge(getattr(request, "param", {})) as opened:
        yield opened


async def outcome(port: int, case: Case) -> str:
    """What is wrong; empty: the strict expectation is met."""
    client = await Client.connect(port)
    try:
        async with asyncio.timeout(5):
            await client.send(*case.writes)
            replies = [await client.next() for _ in case.replies]
            if not case.failed and not case.closes:
                await client.send(client_frame(CLOSE, (1000).to_bytes(2, "big")))
            *more, last = await client.rest()
    except (TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
        return f"{case.number}: {error!r}"
    finally:
        await client.close()
    if case.strays:
        return ""
    if replies != list(case.replies) or more:
        return f"{case.number}: {replies + more}"
    wanted = case.failed or case.closed_with
    if last[0] != CLOSE or code_of(last[1]) not in wanted:
        return f"{case.number}: ended with {last}, not one of {wanted}"
    return ""


def test_the_table_has_all_cases_of_these_categories():
    counts = {str(n): 0 for n in (1, 2, 3, 4, 5, 6, 7, 10)}
    for case in CASES:
        counts[case.number.partition(".")[0]] += 1
    assert counts == {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "10": 1}
    assert len({case.number for case in CASES}) == 247


@pytest.mark.parametrize("category", ["1", "2", "3", "4", "5", "6", "7", "10"])
async def test_every_case_ends_as_the_strict_reading_wants(port, category):
    wrong = [await outcome(port, case) for case in CASES if case.number.partition(".")[0] == category]
    assert [each for each in wrong if each] == []


@pytest.mark.parametrize("port", [{"inbound_bytes_max": 4_194_304}], indirect=True)
async def test_large_messages_whole_in_fragments_and_in_chops(port):
    """Of 9.1 to 9.6: up to 4 MiB."""
    wrong = []
    for n, size in enumerate((65_536, 262_144, 1_048_576, 4_194_304), 1):
        for group, opcode in ((1, TEXT), (2, BINARY)):
            payload = b"*" * size
            wrong.append(
                await outcome(port, Case(f"9.{group}.{n}", [client_frame(opcode, payload)], [(opcode, payload)]))
            )
    payload = b"*" * 1_048_576
    for n, size in enumerate((1_024, 16_384, 262_144), 3):
        pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
        frames = [
            client_frame(TEXT if k == 0 else 0, piece, fin=k == len(pieces) - 1) for k, piece in enumerate(pieces)
        ]
        wrong.append(await outcome(port, Case(f"9.3.{n}", frames, [(TEXT, payload)])))
    whole = client_frame(TEXT, payload)
    chops = [whole[at : at + 2_048] for at in range(0, len(whole), 2_048)]
    wrong.append(await outcome(port, Case("9.5.6", chops, [(TEXT, payload)])))
    assert [each for each in wrong if each] == []


def compressed(payload: bytes, *, final_block: bool = False) -> bytes:
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    if final_block:
        return deflater.compress(payload) + deflater.flush() + b"\x00"
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(first: int, payload: bytes) -> bytes:
    """A frame's payload as its reader sees it, with a fresh window for each message."""
    if not first & 0x40:
        return payload
    return zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")


OFFERS = [
    ("permessage-deflate", "both", ""),
    ("permessage-deflate; client_max_window_bits", "both", ""),
    ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", "both", ""),
    ("permessage-deflate; server_max_window_bits=15", "both", "; server_max_window_bits=12"),
    ('permessage-deflate; server_max_window_bits="12"', "both", "; server_max_window_bits=12"),
    ("permessage-deflate; server_max_window_bits=8, permessage-deflate", "both", ""),
    ("permessage-deflate; server_max_window_bits=9", "theirs", "; server_max_window_bits=9"),
    ("permessage-deflate; server_max_window_bits=8; client_max_window_bits", "theirs", "; server_max_window_bits=8"),
    ("permessage-deflate; server_max_window_bits", "none", ""),
    ("permessage-deflate; server_max_window_bits=16", "none", ""),
    ("permessage-deflate; client_max_window_bits=7", "none", ""),
    ("permessage-deflate; colour=red", "none", ""),
    ("permessage-deflate; server_no_context_takeover=1", "none", ""),
    ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", "none", ""),
    ("permessage-bzip2", "none", ""),
]


@pytest.mark.parametrize(("offer", "compressing", "window"), OFFERS)
async def test_messages_are_compressed_as_agreed_on_and_only_then(port, offer, compressing, window):
    """Of 12 and 13: their sizes, whole and in fragments, with what a client may offer.

    `compressing`: the messages of both sides, theirs alone (our window is larger than they allow), or none.
    """
    client = await Client.connect(port, extensions=offer)
    agreed = compressing != "none"
    extension = f"permessage-deflate; server_no_context_takeover; client_no_context_takeover{window}\r\n"
    assert (extension in client.answer) is agreed
    sizes = ((16, 0), (64, 0), (256, 0), (1_024, 0), (4_096, 0), (65_536, 0), (8_192, 256), (65_536, 1_024))
    text = b'{"sensor":"north","celsius":21.5,"note":"\xc3\xa4"}' * 1_600
    for size, each in sizes:
        payload = text[:size].decode(errors="ignore").encode()
        sent = compressed(payload) if agreed else payload
        pieces = [sent[at : at + (each or len(sent))] for at in range(0, len(sent), each or len(sent))]
        frames = [
            client_frame(0 if n else TEXT, piece, fin=n == len(pieces) - 1, rsv=4 if agreed and not n else 0)
            for n, piece in enumerate(pieces)
        ]
        await client.send(*frames)
        first, reply = await asyncio.wait_for(client.next(), 5)
        assert inflated(first, reply) == payload
        assert bool(first & 0x40) is (compressing == "both" and size >= 256)
        assert not first & 0x40 or len(reply) < size / 2
    await client.close()


@pytest.mark.parametrize("port", [{"compression": False}], indirect=True)
async def test_compression_can_be_switched_off(port):
    client = await Client.connect(port, extensions="permessage-deflate")
    assert "Extensions" not in client.answer
    await client.close()


@pytest.mark.parametrize(
    ("writes", "code"),
    [
        ([client_frame(TEXT, compressed(b"0" * 65_537), rsv=4)], 1009),
        ([client_frame(BINARY, compressed(b"\x00" * 50_000_000), rsv=4)], 1009),
        ([client_frame(TEXT, b"0" * 40_000, fin=False), client_frame(0, b"0" * 40_000)], 1009),
        ([client_frame(TEXT, b"0" * 70_000)[:20]], 1009),
        ([client_frame(TEXT, b"\xff\xff\xff\xff", rsv=4)], 1007),
        ([client_frame(TEXT, compressed(b"\xff\xfe"), rsv=4)], 1007),
        ([client_frame(TEXT, compressed(b"x", final_block=True) + b"\x03\x00" * 9_000, rsv=4)], 1007),
        ([client_frame(TEXT, b"one", fin=False), client_frame(0, b"two", rsv=4)], 1002),
        ([client_frame(9, b"", rsv=4)], 1002),
        ([b"\x81\x05hello"], 1002),
    ],
    ids=["inflates too far", "a bomb", "fragments add up", "announced only", "no deflate stream", "no text in it",
         "goes on after its end", "a later fragment", "a ping", "no mask"],
)  # fmt: skip
async def test_what_a_compressing_client_may_not_send_fails_its_connection(port, writes, code):
    client = await Client.connect(port, extensions=DEFLATE)
    await client.send(*writes)
    async with asyncio.timeout(5):
        [(first, payload)] = await client.rest()
    assert (first, code_of(payload)) == (CLOSE, code)
    await client.close()


async def test_a_message_that_ends_with_a_final_block_is_read(port):
    client = await Client.connect(port, extensions=DEFLATE)
    await client.send(client_frame(TEXT, compressed(HELLO, final_block=True), rsv=4))
    assert await asyncio.wait_for(client.next(), 5) == (TEXT, HELLO)
    await client.close()


async def test_frames_in_the_segment_of_the_handshake_are_read(port):
    client = await Client.connect(port, with_it=client_frame(TEXT, HELLO) + client_frame(9, b"there?")[:-3])
    assert await asyncio.wait_for(client.next(), 5) == (TEXT, HELLO)
    await client.send(client_frame(9, b"there?")[-3:])
    assert await asyncio.wait_for(client.next(), 5) == (10, b"there?")
    await client.close()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ((b"Version: 13", b"Version: 12"), "Sec-WebSocket-Version"),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZQ=="), "Sec-WebSocket-Key"),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25j?Q=="), "Sec-WebSocket-Key"),
        ((b"keep-alive, Upgrade", b"keep-alive"), "Connection"),
        ((b"\r\nUpgrade: websocket", b"\r\nUpgrade: h2c"), "Upgrade"),
    ],
)
def test_a_handshake_that_is_none_is_refused_by_name(change, why):
    head = HANDSHAKE.replace(*change).decode().split("\r\n")[1:-1]
    headers = CIMultiDict(line.split(": ", 1) for line in head)
    with pytest.raises(PenstockError, match=why):
        shake_hands(headers, deflate=True)
