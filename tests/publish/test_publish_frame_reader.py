"""The reader of frames, whatever it is fed and wherever that is cut."""

import zlib
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from publish.autobahn_cases import BINARY, TEXT, client_frame

from penstock_publish.topics.frame_reader import FrameReader, Inbound, Message, Ping, Refusal

LIMIT_BYTES = 300
PING = 9

CUTS = st.lists(st.integers(0, 2_000), max_size=40)


def read(stream: bytes, cuts: Sequence[int]) -> tuple[list[Inbound], int | None]:
    """What is found, and the close code of a refusal."""
    reader = FrameReader(limit_bytes=LIMIT_BYTES, inflates=True)
    found: list[Inbound] = []
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    try:
        for start, end in pairwise(edges):
            found.extend(reader.feed(stream[start:end]))
    except Refusal as refusal:
        return found, refusal.code
    return found, None


def deflated(payload: bytes) -> bytes:
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


@st.composite
def conversations(draw) -> tuple[bytes, list[Inbound]]:
    """Octets of a client that keeps to the rules, and what they mean: messages in fragments, pings in between."""
    octets, wanted = b"", []
    for data in draw(st.lists(st.text(max_size=60) | st.binary(max_size=250), max_size=5)):
        payload, compressed = data.encode() if isinstance(data, str) else data, draw(st.booleans())
        sent = deflated(payload) if compressed else payload
        cuts = sorted(draw(st.lists(st.integers(0, len(sent)), max_size=4)))
        pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
        for number, piece in enumerate(pieces):
            opcode = 0 if number else TEXT if isinstance(data, str) else BINARY
            rsv = 4 if compressed and not number else 0
            octets += client_frame(opcode, piece, fin=number == len(pieces) - 1, rsv=rsv)
            if number < len(pieces) - 1 and draw(st.booleans()):
                octets += client_frame(PING, b"%d" % number)
                wanted.append(Ping(b"%d" % number))
        wanted.append(Message(data))
    return octets, wanted


PAYLOADS = (
    st.text(max_size=20).map(str.encode)
    | st.binary(max_size=100)
    | st.binary(max_size=40).map(deflated)
    | st.sampled_from([b"", b"\x03\xe8bye", b"\x03\xed", b"\xe2\x82", b"\x00" * LIMIT_BYTES, deflated(b"\x00" * 301)])
)
#: Frames that often break some rule, though seldom the first of them.
FRAMES = st.builds(
    client_frame,
    st.sampled_from([1, 1, 1, 2, 2, 0, 8, 9, 9, 10, 3]),
    PAYLOADS,
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0, 0, 0, 0, 0, 4, 4, 1]),
)
#: Frames, one octet of them changed perhaps, and noise.
STREAMS = st.builds(
    lambda frames, changes, noise: spoilt(b"".join(frames), changes) + noise,
    st.lists(FRAMES, max_size=6),
    st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=1),
    st.binary(max_size=5),
)


def spoilt(stream: bytes, changes: Sequence[tuple[int, int]]) -> bytes:
    octets = bytearray(stream)
    for at, octet in changes:
        if at < len(octets):
            octets[at] = octet
    return bytes(octets)


@given(conversations(), CUTS)
def test_what_keeps_to_the_rules_is_read_as_it_was_meant_wherever_it_is_cut(conversation, cuts):
    octets, wanted = conversation
    assert read(octets, cuts) == (wanted, None)


@given(STREAMS, CUTS)
def test_any_octets_mean_the_same_cut_or_whole_or_one_by_one(stream, cuts):
    whole = read(stream, ())
    assert read(stream, cuts) == whole
    assert read(stream, range(len(stream))) == whole
