"""What e-mail alerts decide without a gateway: addresses, templates, settings, pauses; and TLS to the mail server."""

from __future__ import annotations

import datetime as dt
import email
import ipaddress
import ssl
from email.policy import default
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from mail_server import mail_server
from pydantic import ValidationError

from penstock.errors import PenstockError
from penstock_publish.emails.addresses import is_address, may_go_to
from penstock_publish.emails.mail import compose, field_text, wait_s
from penstock_publish.emails.model import Email
from penstock_publish.emails.sender import Sender
from penstock_publish.emails.settings import EmailSettings
from penstock_publish.emails.template import check_template, fill, value_text
from penstock_publish.outbound.reading import Gathered

HERE = {"host": "127.0.0.1", "from_address": "alerts@penstock.example"}
MAIL = b"Subject: hello\r\n\r\n.a line with a dot\r\n"


@pytest.mark.parametrize("address", ["a@b.example", "first.last+tag@mail.shop.example", "x@localhost"])
def test_plain_addresses_will_do(address: str):
    assert is_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "@b.example",
        "a@",
        "a@@b.example",
        "a@b.example\n",
        "a@b.example\r\nBcc: c@d.example",
        "a b@c.example",
        '"a b"@c.example',
        "A <a@b.example>",
        "a@b.example,c@d.example",
        "a@[127.0.0.1]",
        "a@-b.example",
        "a@b..example",
        ".a@b.example",
        "ü@b.example",
        "=?us-ascii?q?=0ABcc=3A_x=40evil.example?=@b.example",
        "a" * 65 + "@b.example",
        "a@" + "b." * 130 + "example",
    ],
)
def test_what_a_header_or_a_command_could_mistake_is_no_address(address: str):
    assert not is_address(address)


def test_domains_are_allowed_by_their_whole_name():
    assert may_go_to("a@Shop.example", ["shop.EXAMPLE"])
    assert may_go_to("a@anywhere.example", ["*"])
    assert not may_go_to("a@shop.example.evil.example", ["shop.example"])
    assert not may_go_to("a@evilshop.example", ["shop.example"])
    assert not may_go_to("a@shop.example", [])


def test_a_template_is_columns_by_name_and_nothing_else():
    row: dict[str, object] = {"id": "{n}", "n": 3, "at once": None}
    template = "{id}/{n}/{at once}/{{n}}"
    check_template(template, list(row), field="body", chars_max=100)
    assert fill(template, row, shown=lambda value: value_text(value, chars_max=10)) == "{n}/3//{n}"


@pytest.mark.parametrize(
    "template", ["{id.real}", "{id[0]}", "{id!s}", "{id:>9}", "{0}", "{}", "{ id}", "{id", "id}"]
)
def test_formats_attributes_and_lone_braces_are_refused(template: str):
    with pytest.raises(PenstockError, match="body has"):
        check_template(template, ["id"], field="body", chars_max=100)


def test_values_are_cut_and_lose_control_characters():
    assert value_text("a\x00b\x1b[31m\r\nc", chars_max=50) == "a b [31m \nc"
    assert value_text("x" * 50, chars_max=10) == "x" * 9 + "…"
    assert value_text({"a": [1, None]}, chars_max=50) == '{"a":[1,null]}'


@pytest.mark.parametrize(
    "value",
    ["=?us-ascii?q?=0ABcc:_x@evil.example?=", "=?utf-8?b?DQpCY2M6IHhAeS5leGFtcGxl?=", "=?utf-8?q?a?= =?utf-8?q?b?=",
     "ü" * 300, "\x85Bcc: x@evil.example", "\u2028Bcc: x", "a\r\n\r\nbody", "\ufeff=?\U0001f600?=", "x" * 900,
     '"<a@b>,(:;'],
)  # fmt: skip
def test_no_value_of_an_event_becomes_a_field_of_the_head(value: str):
    subscription = Email("em", "c", "s", "x", "orders", "a@b.example,c@d.example", "{id}", "{id}", "", "c", 0)
    envelope = msgspec.json.encode({"d": {"id": value}})
    settings = EmailSettings.model_validate({**HERE, "subject_chars_max": 900, "value_chars_max": 900})
    mail = compose(subscription, Gathered([envelope], 1, "c", None), now_ms=0, settings=settings)
    assert mail.isascii()
    assert max(map(len, mail.split(b"\r\n"))) <= 998
    assert b"\n" not in mail.replace(b"\r\n", b"")
    found = email.message_from_bytes(mail, policy=default)
    assert sorted(found.keys()) == ["Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From",
                                    "MIME-Version", "Message-ID", "Subject", "To"]  # fmt: skip
    shown = " ".join(value_text(value, chars_max=900).split())
    assert (found["To"], found["Subject"]) == ("a@b.example, c@d.example", shown)


def test_a_long_text_of_a_field_is_cut_between_characters():
    lines = field_text("\U0001f600" * 50).split("\r\n ")
    assert len(lines) == 5
    assert max(map(len, lines)) <= 75


def test_mails_are_evenly_apart_even_if_the_clock_goes_back():
    assert wait_s(0, 1_000_000, mails_per_hour_max=12) == 0
    assert wait_s(1_000_000, 1_100_000, mails_per_hour_max=12) == 200
    assert wait_s(1_000_000, 1_300_000, mails_per_hour_max=12) == 0
    assert wait_s(9_000_000, 1_000_000, mails_per_hour_max=12) == 300


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"host": "mail.shop.example"}, "needs from_address"),
        ({**HERE, "from_address": "a@b\r\nBcc: c@d.example"}, "needs from_address"),
        ({**HERE, "user": "me"}, "needs password or password_file"),
        ({**HERE, "user": "me", "password": "x", "password_file": "/x"}, "one of them"),
        ({**HERE, "user": "me", "password": "x", "tls": "none"}, "not sent without TLS"),
    ],
)
def test_settings_that_cannot_work_say_so(settings: dict[str, Any], reason: str):
    with pytest.raises(ValidationError, match=reason):
        EmailSettings.model_validate(settings)


def certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context for 127.0.0.1, and the file to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = dt.datetime.now(dt.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).add_extension(here, critical=False)
    builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
    file, key_file = folder / "mail.pem", folder / "mail.key"
    file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key_file)
    return context, file


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_over_tls_it_logs_in_with_the_password_of_a_file(tmp_path: Path, tls: str):
    context, ca_file = certified(tmp_path)
    (tmp_path / "password").write_text("hush\n")
    async with mail_server(context, implicit=tls == "implicit") as post:
        more = {"port": post.port, "tls": tls, "ca_file": ca_file, "user": "me",
                "password_file": tmp_path / "password"}  # fmt: skip
        sender = Sender(EmailSettings.model_validate({**HERE, **more}))
        sent = await sender.send(MAIL, ["a@b.example"])
        assert (sent.outcome, sent.detail) == ("delivered", "")
        [mail] = post.mails
        assert (mail.encrypted, mail.login, mail.raw) == (True, "\0me\0hush", MAIL)
        assert [command.split()[0] for command in post.commands].index("AUTH") >= (2 if tls == "starttls" else 1)
        strict = Sender(EmailSettings.model_validate({**HERE, "port": post.port, "tls": tls}))
        sent = await strict.send(MAIL, ["a@b.example"])
        assert sent.later == ("a@b.example",), "a certificate that the system does not know"
        assert "certificate" in sent.detail.lower()
        sender.close()
        strict.close()


@pytest.mark.parametrize("answers", [False, True])
async def test_implicit_tls_gives_nothing_to_a_server_without_it_or_with_another_name(tmp_path: Path, answers: bool):
    context, ca_file = certified(tmp_path)
    more = {"tls": "implicit", "ca_file": ca_file, "user": "me", "password": "hush", "timeout_s": 0.3}
    async with mail_server(context if answers else None, implicit=answers) as post:
        more |= {"port": post.port, "host": "localhost" if answers else "127.0.0.1"}
        sender = Sender(EmailSettings.model_validate({**HERE, **more}))
        assert (await sender.send(MAIL, ["a@b.example"])).later == ("a@b.example",)
        assert not post.mails
        assert not any("AUTH" in command for command in post.commands)
        sender.close()


async def test_a_server_without_starttls_gets_neither_password_nor_mail():
    async with mail_server() as post:
        more = {"port": post.port, "user": "me", "password": "hush"}
        sender = Sender(EmailSettings.model_validate({**HERE, **more}))
        sent = await sender.send(MAIL, ["a@b.example"])
        assert sent.later == ("a@b.example",)
        assert "STARTTLS" in sent.detail
        assert [command.split()[0].upper() for command in post.commands] in (["EHLO"], ["EHLO", "QUIT"])
        sender.close()


async def test_recipients_are_told_apart_by_their_replies():
    answers = {"no@b.example": "550 unknown", "soon@b.example": "450 busy", "yes@b.example": "250 fine"}
    async with mail_server() as post:
        post.of_recipient = answers.__getitem__
        sender = Sender(EmailSettings.model_validate({**HERE, "port": post.port, "tls": "none"}))
        sent = await sender.send(MAIL, list(answers))
        assert (sent.later, sent.refused) == (("soon@b.example",), ("no@b.example",))
        sent = await sender.send(MAIL, ["no@b.example", "soon@b.example"])
        assert (sent.later, sent.refused) == (("soon@b.example",), ("no@b.example",))
        assert [mail.to for mail in post.mails] == [("yes@b.example",)]
        sender.close()
    sent = await Sender(EmailSettings.model_validate({**HERE, "port": post.port})).send(MAIL, ["yes@b.example"])
    assert sent.outcome == "later", "nobody there"
