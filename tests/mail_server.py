"""A small SMTP server on a free loopback port that answers as a test wants it to (RFC 5321, STARTTLS of RFC 3207)."""

from __future__ import annotations

import asyncio
import base64
import email
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import default

__all__ = ["Mail", "MailServer", "mail_server"]


@dataclass(frozen=True)
class Mail:
    """What was taken: the envelope, and the mail itself."""

    sender: str
    to: tuple[str, ...]
    raw: bytes
    encrypted: bool
    login: str

    @property
    def message(self) -> EmailMessage:
        found = email.message_from_bytes(self.raw, policy=default)
        assert isinstance(found, EmailMessage)
        return found

    @property
    def text(self) -> str:
        return self.message.get_content().replace("\r\n", "\n")


class MailServer:
    """`of_recipient` and `of_mail` give the replies to RCPT and to the end of DATA.

    `tls` None: no STARTTLS. `implicit`: TLS from the first byte, as on port 465 (RFC 8314).
    """

    def __init__(self, tls: ssl.SSLContext | None, *, implicit: bool = False) -> None:
        self.mails: list[Mail] = []
        self.offered: list[bytes] = []  # each mail that came, taken or not
        self.commands: list[str] = []
        self.of_recipient: Callable[[str], str] = lambda _: "250 fine"
        self.of_mail: Callable[[], str] = lambda: "250 taken"
        self.port = 0
        self.tls = tls
        self.implicit = implicit

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # a client that has gone
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender, to, encrypted, login = "", list[str](), self.implicit, ""
        writer.write(b"220 here\r\n")
        while line := (await reader.readline()).decode("ascii").strip():
            self.commands.append(line)
            verb = line.split(" ", 1)[0].upper()
            reply = "250 fine"
            if verb == "EHLO":
                more = "250-STARTTLS\r\n" if self.tls is not None and not encrypted else "250-AUTH PLAIN\r\n"
                reply = f"250-here\r\n{more}250 SIZE 1000000"
            elif verb == "STARTTLS" and self.tls is not None:
                writer.write(b"220 go on\r\n")
                await writer.drain()
                await writer.start_tls(self.tls)
                encrypted = True
                continue
            elif verb == "AUTH":
                login, reply = base64.b64decode(line.split(" ")[-1]).decode(), "235 welcome"
            elif verb == "MAIL":
                sender, to = line[line.index("<") + 1 : line.index(">")], []
            elif verb == "RCPT":
                one = line[line.index("<") + 1 : line.index(">")]
                reply = self.of_recipient(one)
                to += [one] if reply.startswith("2") else []
            elif verb == "DATA":
                writer.write(b"354 go on\r\n")
                raw = (await reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")
                self.offered.append(raw)
                reply = self.of_mail()
                if reply.startswith("2"):
                    self.mails.append(Mail(sender, tuple(to), raw, encrypted, login))
            elif verb == "QUIT":
                writer.write(b"221 bye\r\n")
                return
            writer.write(f"{reply}\r\n".encode())


@asynccontextmanager
async def mail_server(tls: ssl.SSLContext | None = None, *, implicit: bool = False) -> AsyncIterator[MailServer]:
    """On a free loopback port."""
    found = MailServer(tls, implicit=implicit)
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0, ssl=tls if implicit else None)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        await server.wait_closed()
