"""How a client proves who it is, and who the brokers are: settings in the library's words, its refusals in ours."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import KafkaError
from pydantic import SecretStr

from penstock.errors import PenstockError
from penstock.logs.settings import KafkaSecuritySettings

__all__ = ["Refusals", "in_our_words", "security_config"]

_AT = "log.kafka.security."
#: The library's names of what comes from settings of ours.
_SETTINGS = {
    "ssl.ca.location": "ca_file",
    "ssl.certificate.location": "certificate_file",
    "ssl.key.location": "key_file",
    "ssl.key.password": "key_password",
}
#: What a broker says, over TLS, of the certificate that it was shown or not shown; `handshake failure` is OpenSSL's.
_ALERTS = ("alert bad certificate", "alert certificate", "alert unknown ca", "handshake failure")
_GRACE_S = 0.5


class Refusals:
    """What brokers, or their certificates, had against this process since a call was answered last."""

    def __init__(self, security: KafkaSecuritySettings) -> None:
        self._security = security
        self._lasting: tuple[str, float] | None = None  # and since when
        self.hint = ""  # the newest trouble of a connection, for people

    def told(self, error: KafkaError, now_s: float) -> None:
        """An error of a connection, of whichever broker."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # the library's name for what follows from the others
            return
        self.hint = error.str()
        remedy = _remedy(error, self._security)
        if remedy:
            since_s = now_s if self._lasting is None else self._lasting[1]
            self._lasting = f"{error.str()}; {remedy}", since_s

    def answered(self) -> None:
        """Brokers know us."""
        self._lasting, self.hint = None, ""

    def lasting(self, now_s: float) -> str | None:
        """What waiting does not heal, with the remedy: no broker has answered for a while after it was said."""
        return self._lasting[0] if self._lasting is not None and now_s - self._lasting[1] >= _GRACE_S else None


def security_config(security: KafkaSecuritySettings) -> dict[str, str]:
    """Settings of the library. `bad_request` names the setting that is missing, too many or no readable file.

    Blocks for a moment: looks at the files.
    """
    _check(security)
    config: dict[str, str] = {"security.protocol": security.protocol}
    if security.uses_sasl:
        config |= {
            "sasl.mechanism": security.mechanism,
            "sasl.username": security.username or "",
            "sasl.password": _plain(security.password),
        }
    if security.uses_tls:
        config["ssl.endpoint.identification.algorithm"] = "https" if security.check_hostname else "none"
        files = {"ca_file": security.ca_file, "certificate_file": security.certificate_file,
                 "key_file": security.key_file}  # fmt: skip
        config |= {name: _readable(ours, path) for name, ours in _SETTINGS.items() if (path := files.get(ours))}
        if security.key_password is not None:
            config["ssl.key.password"] = _plain(security.key_password)
    return config


def in_our_words(text: str) -> str:
    """An error of the library about its settings, with the names of ours."""
    for name, ours in _SETTINGS.items():
        text = text.replace(name, _AT + ours)
    return text


def _check(security: KafkaSecuritySettings) -> None:
    """What settings must have in common. Not checked where they are read: there one of them may still be missing."""
    missing = [name for name in ("username", "password") if not _plain(getattr(security, name))]
    if security.uses_sasl and missing:
        raise _wrong(missing[0], f"{security.protocol} needs it; set it, or {_file_variable(missing[0])}")
    if not security.uses_sasl and len(missing) < 2:
        given = "password" if missing == ["username"] else "username"
        raise _wrong(given, f"{security.protocol} does not use it; set {_AT}protocol to sasl_ssl")
    for name in ("ca_file", "certificate_file", "key_file"):
        if getattr(security, name) and not security.uses_tls:
            raise _wrong(name, f"{security.protocol} does not use it; set {_AT}protocol to ssl or sasl_ssl")
    if security.certificate_file and not security.key_file:
        raise _wrong("key_file", "certificate_file has a key: name its file")
    for name in ("key_file", "key_password"):
        if getattr(security, name) and not security.certificate_file:
            raise _wrong("certificate_file", f"{name} is the key of a certificate: name its file")


def _remedy(error: KafkaError, security: KafkaSecuritySettings) -> str | None:
    """What somebody must do; None where waiting may help."""
    code, text = error.code(), error.str()
    if code == KafkaError._AUTHENTICATION and "supported mechanisms" in text:  # the library's name
        return f"set {_AT}mechanism to one that the brokers support at this address, or {_AT}protocol to theirs"
    if code == KafkaError._AUTHENTICATION:  # as above
        return (
            f"set {_AT}username, {_AT}password (or {_file_variable('password')}) and {_AT}mechanism "
            f"({security.mechanism}) as the brokers have them"
        )
    if "certificate verify failed" in text:
        trusted = security.ca_file or "what this system trusts"
        return (
            f"set {_AT}ca_file ({trusted}) to the certificates of the authority that signed the brokers', and use "
            f"addresses in the log's URL that those name (or set {_AT}check_hostname to false)"
        )
    if any(alert in text for alert in _ALERTS):
        return (
            f"set {_AT}certificate_file and {_AT}key_file to a certificate that the brokers trust "
            f"({security.certificate_file or 'none is set'})"
        )
    return None


def _readable(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise _wrong(name, f"{path}: {error.strerror}; name a PEM file that this process may read") from error
    return str(path)


def _plain(value: str | SecretStr | None) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value or ""


def _file_variable(name: str) -> str:
    return f"PENSTOCK_LOG__KAFKA__SECURITY__{name.upper()}_FILE"


def _wrong(name: str, why: str) -> PenstockError:
    return PenstockError("bad_request", f"setting {_AT}{name}: {why}")
