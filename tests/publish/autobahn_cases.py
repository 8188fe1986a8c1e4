"""The cases 1 to 7 and 10 of the Autobahn WebSocket test suite as frames, under its numbers (all 247).

A case sends its `writes`, each a write of its own, and wants exactly `replies`. If `failed` holds codes, the server
must then fail the connection with one of them, without waiting for anything more; otherwise the client closes, unless
the writes did so, and the server must answer and end the line.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["BINARY", "CLOSE", "PONG", "TEXT", "Case", "all_cases", "client_frame"]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
PROTOCOL_ERROR, INVALID_PAYLOAD = 1002, 1007
HELLO = b"Hello, world!"
GREEK = bytes.fromhex("cebae1bdb9cf83cebcceb5")  # five letters, one of them of three bytes
MASK = b"\x37\xfa\x21\x3d"

Reply = tuple[int, bytes]


@dataclass(frozen=True)
class Case:
    """One case; `strays` (the informational ones): any end will do, as long as there is one."""

    number: str
    writes: Sequence[bytes]
    replies: Sequence[Reply] = ()
    failed: Sequence[int] = ()
    closes: bool = False
    closed_with: Sequence[int | None] = (1000,)
    strays: bool = False


def client_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A masked frame."""
    size = len(payload)
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    else:
        head += struct.pack("!BH", 0xFE, size) if size < 65_536 else struct.pack("!BQ", 0xFF, size)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes((MASK * (size // 4 + 1))[:size], "big")
    return head + MASK + masked.to_bytes(size, "big")


def octets(*frames: bytes) -> list[bytes]:
    """Each octet a write."""
    return [bytes([octet]) for octet in b"".join(frames)]


def fragments(opcode: int, *payloads: bytes) -> list[bytes]:
    """A fragmented message."""
    last = len(payloads) - 1
    return [client_frame(CONTINUATION if n else opcode, payload, fin=n == last) for n, payload in enumerate(payloads)]


def closing(code: int | None, reason: bytes = b"") -> bytes:
    """A close frame of the client."""
    return client_frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def all_cases() -> list[Case]:
    """Every case, in order."""
    return [*framing(), *pings(), *reserved_bits(), *opcodes(), *fragmentation(), *utf8(), *closes(), *misc()]


def framing() -> Iterator[Case]:
    for group, opcode, octet in ((1, TEXT, b"*"), (2, BINARY, b"\xfe")):
        for n, size in enumerate((0, 125, 126, 127, 128, 65_535, 65_536, 65_536), 1):
            payload = octet * size
            whole = client_frame(opcode, payload)
            writes = [whole] if n < 8 else [whole[at : at + 997] for at in range(0, len(whole), 997)]
            yield Case(f"1.{group}.{n}", writes, [(opcode, payload)])


def pings() -> Iterator[Case]:
    octet_values = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
    for n, payload in ((1, b""), (2, HELLO), (3, octet_values), (4, b"\xfe" * 125)):
        yield Case(f"2.{n}", [client_frame(PING, payload)], [(PONG, payload)])
    yield Case("2.5", [client_frame(PING, b"\xfe" * 126)], failed=[PROTOCOL_ERROR])
    yield Case("2.6", octets(client_frame(PING, b"\xfe" * 125)), [(PONG, b"\xfe" * 125)])
    yield Case("2.7", [client_frame(PONG)])
    yield Case("2.8", [client_frame(PONG, b"unasked")])
    yield Case("2.9", [client_frame(PONG, b"unasked"), client_frame(PING, b"asked")], [(PONG, b"asked")])
    ten = [b"payload-%d" % n for n in range(10)]
    frames = [client_frame(PING, payload) for payload in ten]
    yield Case("2.10", frames, [(PONG, payload) for payload in ten])
    yield Case("2.11", octets(*frames), [(PONG, payload) for payload in ten])


def reserved_bits() -> Iterator[Case]:
    hello, ping = client_frame(TEXT, HELLO), client_frame(PING)
    echo = [(TEXT, HELLO)]
    yield Case("3.1", [client_frame(TEXT, HELLO, rsv=1)], failed=[PROTOCOL_ERROR])
    yield Case("3.2", [hello + client_frame(TEXT, HELLO, rsv=2) + ping], echo, [PROTOCOL_ERROR])
    yield Case("3.3", [hello, client_frame(TEXT, HELLO, rsv=3), ping], echo, [PROTOCOL_ERROR])
    yield Case("3.4", octets(hello, client_frame(TEXT, HELLO, rsv=4), ping), echo, [PROTOCOL_ERROR])
    yield Case("3.5", [client_frame(BINARY, b"\x00\xff\xfe", rsv=5)], failed=[PROTOCOL_ERROR])
    yield Case("3.6", [client_frame(PING, HELLO, rsv=6)], failed=[PROTOCOL_ERROR])
    yield Case("3.7", [client_frame(CLOSE, rsv=7)], failed=[PROTOCOL_ERROR])


def opcodes() -> Iterator[Case]:
    hello, ping = client_frame(TEXT, HELLO), client_frame(PING)
    for group, first in ((1, 3), (2, 11)):
        for n in range(5):
            bad = client_frame(first + n, HELLO if n in (1, 3, 4) else b"")
            if n < 2:
                yield Case(f"4.{group}.{n + 1}", [bad], failed=[PROTOCOL_ERROR])
                continue
            writes = octets(hello, bad, ping) if n == 4 else [hello + bad + ping]
            yield Case(f"4.{group}.{n + 1}", writes, [(TEXT, HELLO)], [PROTOCOL_ERROR])


def fragmentation() -> Iterator[Case]:
    one, two = b"fragment1", b"fragment2"
    for n, opcode in ((1, PING), (2, PONG)):
        yield Case(f"5.{n}", fragments(opcode, one, two), failed=[PROTOCOL_ERROR])
    both = fragments(TEXT, one, two)
    for n, writes in ((3, [b"".join(both)]), (4, both), (5, octets(*both))):
        yield Case(f"5.{n}", writes, [(TEXT, one + two)])
    pinged = [both[0], client_frame(PING, b"ping"), both[1]]
    for n, writes in ((6, [b"".join(pinged)]), (7, pinged), (8, octets(*pinged))):
        yield Case(f"5.{n}", writes, [(PONG, b"ping"), (TEXT, one + two)])
    for first, fin in ((9, True), (12, False)):
        frames = [client_frame(CONTINUATION, b"nothing to continue", fin=fin), client_frame(TEXT, HELLO)]
        for n, writes in enumerate(([b"".join(frames)], frames, octets(*frames)), first):
            yield Case(f"5.{n}", writes, failed=[PROTOCOL_ERROR])
    lone = client_frame(CONTINUATION, b"fragment3", fin=False)
    yield Case("5.15", [b"".join([*both, lone, client_frame(TEXT, HELLO)])], [(TEXT, one + two)], [PROTOCOL_ERROR])
    for n, fin in ((16, False), (17, True)):
        frames = [client_frame(CONTINUATION, one, fin=fin), *fragments(TEXT, two, b"fragment3")]
        yield Case(f"5.{n}", frames * 2, failed=[PROTOCOL_ERROR])
    yield Case("5.18", [client_frame(TEXT, one, fin=False), client_frame(TEXT, two)], failed=[PROTOCOL_ERROR])
    five = [b"fragment%d" % n for n in range(1, 6)]
    first, second, third, fourth, fifth = fragments(TEXT, *five)
    asked = [client_frame(PING, b"pongme 1!"), client_frame(PING, b"pongme 2!")]
    frames = [first, second, asked[0], third, fourth, asked[1], fifth]
    replies = [(PONG, b"pongme 1!"), (PONG, b"pongme 2!"), (TEXT, b"".join(five))]
    yield Case("5.19", [b"".join(frames[:3]), b"".join(frames[3:])], replies)
    yield Case("5.20", frames, replies)


def utf8() -> Iterator[Case]:
    middle, text = b"middle frame payload", "Hello-µ@ßöäüàá-UTF-8!!".encode()
    yield Case("6.1.1", [client_frame(TEXT)], [(TEXT, b"")])
    yield Case("6.1.2", fragments(TEXT, b"", b"", b""), [(TEXT, b"")])
    yield Case("6.1.3", fragments(TEXT, b"", middle, b""), [(TEXT, middle)])
    yield Case("6.2.1", [client_frame(TEXT, text)], [(TEXT, text)])
    yield Case("6.2.2", fragments(TEXT, text[:12], text[12:]), [(TEXT, text)])
    for n, each in ((3, text), (4, GREEK)):
        yield Case(f"6.2.{n}", fragments(TEXT, *octets(each)), [(TEXT, each)])
    bad = GREEK + b"\xed\xa0\x80edited"
    yield Case("6.3.1", [client_frame(TEXT, bad)], failed=[INVALID_PAYLOAD])
    yield Case("6.3.2", fragments(TEXT, *octets(bad)), failed=[INVALID_PAYLOAD])
    # Fail fast: what would follow the fault is never sent; whoever waits for the end of the message waits for ever.
    parts = (GREEK, b"\xf4\x90\x80\x80", b"edited")
    yield Case("6.4.1", fragments(TEXT, *parts)[:2], failed=[INVALID_PAYLOAD])
    split = (GREEK + b"\xf4", b"\x90", b"\x80\x80edited")
    yield Case("6.4.2", fragments(TEXT, *split)[:2], failed=[INVALID_PAYLOAD])
    for n, (first, second, third) in ((3, parts), (4, split)):
        whole = client_frame(TEXT, first + second + third)
        ends = len(whole) - len(second + third), len(whole) - len(third)
        yield Case(f"6.4.{n}", [whole[: ends[0]], whole[ends[0] : ends[1]]], failed=[INVALID_PAYLOAD])
    for group, (valid, sequences) in enumerate(SEQUENCES, 5):
        for n, payload in enumerate(sequences, 1):
            good = valid
            if valid is None:
                good = is_utf8(payload)
            number, write = f"6.{group}.{n}", [client_frame(TEXT, payload)]
            yield Case(number, write, [(TEXT, payload)]) if good else Case(number, write, failed=[INVALID_PAYLOAD])


def is_utf8(payload: bytes) -> bool:
    """By the decoder; used where a group mixes both, each of which has a group of its own as well."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def cut(*sequences: str) -> list[bytes]:
    return [bytes.fromhex(sequence) for sequence in sequences]


INCOMPLETE = cut("c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf")
NONCHARACTERS = [
    sequence
    for lead in b"\xf0\xf1\xf2\xf3\xf4"
    for second in b"\x8f\x9f\xaf\xbf"
    if not (lead == 0xF4 and second != 0x8F) and not (lead == 0xF0 and second == 0x8F)
    for sequence in (bytes([lead, second, 0xBF, 0xBE]), bytes([lead, second, 0xBF, 0xBF]))
]
#: (valid, sequences) from 6.5 on, after Markus Kuhn's UTF-8 stress test; None: some are, some are not.
SEQUENCES: list[tuple[bool | None, list[bytes]]] = [
    (True, [b"hello\x24world", *(f"hello{c}world".encode() for c in "¢€\U00024b62"), GREEK]),
    (None, [GREEK[: n + 1] for n in range(len(GREEK))]),
    (True, cut("00", "c280", "e0a080", "f0908080")),
    (False, cut("f888808080", "fc8480808080")),
    (True, cut("7f", "dfbf", "efbfbf", "f48fbfbf")),
    (False, cut("f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf")),
    (None, cut("ed9fbf", "ee8080", "efbfbd", "f48fbfbf", "f4908080")),
    (False, [*cut("80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf"), bytes(range(0x80, 0xBF))]),
    (
        False,
        [
            b"".join(bytes([lead, 0x20]) for lead in range(first, last))
            for first, last in ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))
        ],
    ),
    (False, INCOMPLETE),
    (False, [b"".join(INCOMPLETE)]),
    (False, cut("fe", "ff", "fefeffff")),
    (False, cut("c0af", "e080af", "f08080af", "f8808080af", "fc80808080af")),
    (False, cut("c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf")),
    (False, cut("c080", "e08080", "f0808080", "f880808080", "fc8080808080")),
    (False, cut("eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf")),
    (False, [high + low for high in cut("eda080", "edadbf", "edae80", "edafbf") for low in cut("edb080", "edbfbf")]),
    (True, [*cut("efbfbe", "efbfbf"), *NONCHARACTERS]),
    (True, cut("efbfb9", "efbfba", "efbfbb", "efbfbc", "efbfbd", "efbfbe", "efbfbf")),
]


def closes() -> Iterator[Case]:
    hello, normal = client_frame(TEXT, b"Hello World!"), closing(1000)
    echo = [(TEXT, b"Hello World!")]
    yield Case("7.1.1", [hello, normal], echo, closes=True)
    yield Case("7.1.2", [normal + normal], closes=True)
    yield Case("7.1.3", [normal + client_frame(PING)], closes=True)
    yield Case("7.1.4", [normal + hello], closes=True)
    first, second = fragments(TEXT, b"fragment1", b"fragment2")
    yield Case("7.1.5", [first + normal + second], closes=True)
    large = client_frame(TEXT, b"BAsd7&jh23" * 26_215)
    yield Case("7.1.6", [large + hello + normal + client_frame(PING)], closes=True, strays=True)
    yield Case("7.3.1", [closing(None)], closes=True, closed_with=(None, 1000))
    yield Case("7.3.2", [client_frame(CLOSE, b"a")], failed=[PROTOCOL_ERROR])
    yield Case("7.3.3", [normal], closes=True)
    yield Case("7.3.4", [closing(1000, b"Hello World!")], closes=True)
    yield Case("7.3.5", [closing(1000, b"*" * 123)], closes=True)
    yield Case("7.3.6", [closing(1000, b"*" * 124)], failed=[PROTOCOL_ERROR])
    bad = GREEK + b"\xed\xa0\x80edited"
    yield Case("7.5.1", [closing(1000, bad)], failed=[PROTOCOL_ERROR, INVALID_PAYLOAD])
    for n, code in enumerate((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999), 1):
        yield Case(f"7.7.{n}", [closing(code)], closes=True, closed_with=(code, 1000))
    for n, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
        yield Case(f"7.9.{n}", [closing(code)], failed=[PROTOCOL_ERROR])
    yield Case("7.13.1", [closing(5000)], closes=True, strays=True)
    yield Case("7.13.2", [closing(65_535)], closes=True, strays=True)


def misc() -> Iterator[Case]:
    payload = b"*" * 65_536
    frames = fragments(TEXT, *(payload[at : at + 1_300] for at in range(0, len(payload), 1_300)))
    yield Case("10.1.1", frames, [(TEXT, payload)])
