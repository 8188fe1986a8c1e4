"""A WebSocket client that reads and writes octets without the help of any library: it can do what is wrong."""

import asyncio
import socket
from contextlib import suppress

__all__ = ["HANDSHAKE", "Client", "code_of"]

HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Client:
    """Reads frames without the help of any library."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.answer = ""

    @classmethod
    async def connect(cls, port: int, *, extensions: str = "", with_it: bytes = b"") -> "Client":
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = cls(reader, writer)
        offer = f"Sec-WebSocket-Extensions: {extensions}\r\n".encode() if extensions else b""
        writer.write(HANDSHAKE + offer + b"\r\n" + with_it)
        client.answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert client.answer.startswith("HTTP/1.1 101 ")
        assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in client.answer
        return client

    async def send(self, *writes: bytes) -> None:
        for write in writes:
            self.writer.write(write)
            with suppress(ConnectionError):  # the server may have had enough before the last write
                await self.writer.drain()

    async def next(self) -> tuple[int, bytes]:
        """(first byte of the frame less its last-fragment bit, payload); EOF raises IncompleteReadError."""
        first, size = await self.reader.readexactly(2)
        assert first & 0x80, "the server fragments nothing"
        assert not size & 0x80, "a server masks nothing"
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        return first & 0x7F, await self.reader.readexactly(size)

    async def rest(self) -> list[tuple[int, bytes]]:
        """Frames until the server ends the line."""
        found = []
        with suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                found.append(await self.next())
        return found

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


def code_of(payload: bytes) -> int | None:
    return int.from_bytes(payload[:2], "big") if payload else None
