"""A broker that asks who comes: SASL over TLS and over plain TCP, and client certificates, on ports of their own.

The certificates are made anew each time: an authority, a certificate of the broker for 127.0.0.1 (and not for
`localhost`: a wrong host name can be tried), and one of a client.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kafka_broker import BrokerSettings, KafkaBroker, free_ports

__all__ = ["KEY_PASSWORD", "PASSWORD", "USERNAME", "SecuredBroker", "secured_broker"]

USERNAME = "penstock"
PASSWORD = "the broker's own"
KEY_PASSWORD = "of the client's key"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as PEM files."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    certificate_file: Path
    key_file: Path


class SecuredBroker(KafkaBroker):
    """`listeners`: protocol (`sasl_ssl`, `ssl`, `sasl_plaintext`) -> `host:port`; certificates in `tls`."""

    def __init__(self, folder: Path) -> None:
        self.tls = folder / "tls"
        self.tls.mkdir(parents=True)
        authority = _identity(self.tls, "authority", None)
        broker = _identity(self.tls, "broker", authority)
        self.client = _identity(self.tls, "client", authority)
        self.stranger = _identity(self.tls, "stranger", None)
        self.ca_file = authority.certificate_file
        (self.tls / "keystore.pem").write_bytes(broker.key_file.read_bytes() + broker.certificate_file.read_bytes())
        self.encrypted_key_file = self.tls / "client.encrypted.key"
        self.encrypted_key_file.write_bytes(
            self.client.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(KEY_PASSWORD.encode()),
            )
        )
        plain, controller, *secured = free_ports(5)
        names = ("sasl_ssl", "ssl", "sasl_plaintext")
        self.listeners = {name: f"127.0.0.1:{port}" for name, port in zip(names, secured, strict=True)}
        listeners = {"plaintext": f"127.0.0.1:{plain}", **self.listeners, "controller": f"127.0.0.1:{controller}"}
        properties = {
            "listeners": ",".join(f"{name.upper()}://{place}" for name, place in listeners.items()),
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,"
            + ",".join(f"{name.upper()}:{name.upper()}" for name in ("plaintext", *names)),
            "inter.broker.listener.name": "PLAINTEXT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.tls / "keystore.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca_file),
            "listener.name.ssl.ssl.client.auth": "required",
        }
        for name in ("sasl_ssl", "sasl_plaintext"):
            properties[f"listener.name.{name}.sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
            properties[f"listener.name.{name}.plain.sasl.jaas.config"] = (
                f'{_PLAIN} required user_{USERNAME}="{PASSWORD}";'
            )
            for mechanism in ("scram-sha-256", "scram-sha-512"):
                properties[f"listener.name.{name}.{mechanism}.sasl.jaas.config"] = f"{_SCRAM} required;"
        words: list[str] = []
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            words += ["--add-scram", f'{mechanism}=[name={USERNAME},password="{PASSWORD}"]']
        super().__init__(
            folder,
            BrokerSettings(ports=(plain, controller), properties=properties, format_words=tuple(words)),
        )


@pytest.fixture(scope="module")
def secured_broker(need: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """One for the tests of a file."""
    missing = KafkaBroker.missing()
    need("kafka", missing is None, missing or "")  # type: ignore[operator]  # the fixture of tests/conftest.py
    broker = SecuredBroker(tmp_path_factory.mktemp("secured"))
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def _identity(folder: Path, name: str, issuer: Identity | None) -> Identity:
    """An authority of its own where there is no `issuer`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    certificate_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key_file.write_bytes(encoded)
    return Identity(certificate, key, certificate_file, key_file)
