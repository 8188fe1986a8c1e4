"""Hands mails to the SMTP server, in threads of its own: smtplib blocks."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from penstock_publish.emails.addresses import domain_of
from penstock_publish.emails.settings import EmailSettings
from penstock_publish.outbound.attempt import Attempt, plain_words

__all__ = ["Sender"]

_Replies = Mapping[str, tuple[int, bytes]]


class Sender:
    """Sends for all subscriptions of a process."""

    def __init__(self, settings: EmailSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.connections_max, thread_name_prefix="penstock-email")

    async def send(self, mail: bytes, to: Sequence[str]) -> Attempt:
        """What became of it; never raises for what the server does."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._send, mail, to)

    def close(self) -> None:
        """Take no more mails; what is under way may still arrive."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _send(self, mail: bytes, to: Sequence[str]) -> Attempt:
        everyone = tuple(to)
        try:
            return self._handed_over(mail, everyone)
        except smtplib.SMTPRecipientsRefused as error:
            return _by_recipient(error.recipients, everyone, among=everyone)
        except smtplib.SMTPDataError as error:
            detail = _said(error.smtp_code, error.smtp_error)
            if error.smtp_code >= 500:
                return Attempt(refused=everyone, detail=detail)
            return Attempt(later=everyone, detail=detail)
        except smtplib.SMTPResponseException as error:  # of connection, login or sender: the operator's to mend
            return Attempt(later=everyone, detail=_said(error.smtp_code, error.smtp_error))
        except (smtplib.SMTPException, OSError, ValueError) as error:
            return Attempt(
                later=everyone, detail=plain_words(f"the mail server: {str(error) or type(error).__name__}")
            )

    def _handed_over(self, mail: bytes, to: tuple[str, ...]) -> Attempt:
        settings = self._settings
        assert settings.host is not None  # nothing is sent without
        assert settings.from_address is not None  # settings see to it
        name = domain_of(settings.from_address)
        server: smtplib.SMTP
        if settings.tls == "implicit":
            server = smtplib.SMTP_SSL(
                settings.host, settings.port, name, timeout=settings.timeout_s, context=self._trust()
            )
        else:
            server = smtplib.SMTP(settings.host, settings.port, name, timeout=settings.timeout_s)
        try:
            if settings.tls == "starttls":
                server.starttls(context=self._trust())  # raises where it is not offered
            if settings.user is not None:
                server.login(settings.user, self._password())
            refused = server.sendmail(settings.from_address, to, mail)
            with suppress(smtplib.SMTPException, OSError):  # the mail is theirs, whatever they say to a farewell
                server.quit()
        finally:
            server.close()
        return _by_recipient(refused, to, among=tuple(refused))

    def _trust(self) -> ssl.SSLContext:
        file = self._settings.ca_file
        return ssl.create_default_context(cafile=None if file is None else str(file))

    def _password(self) -> str:
        settings = self._settings
        if settings.password_file is not None:
            return settings.password_file.read_text().strip()
        return "" if settings.password is None else settings.password.get_secret_value()


def _by_recipient(replies: _Replies, to: tuple[str, ...], *, among: tuple[str, ...]) -> Attempt:
    """Of the recipients `among` those of `to`, who do not have it: refused with 5xx, else it may do later."""
    refused = tuple(one for one in to if one in replies and replies[one][0] >= 500)
    later = tuple(one for one in among if one not in refused)
    last = next(reversed(list(replies.values())), None)
    return Attempt(later, refused, "" if last is None else _said(*last))


def _said(code: int, text: bytes | str) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return plain_words(f"the mail server answered {code} {words}")
