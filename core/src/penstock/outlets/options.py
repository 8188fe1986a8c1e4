"""Options of connectors that are written to: one model each, read from the texts of `WITH ('name' = 'text')`. Pure.

Names are Flink's where Flink has them; a field's alias is the name in the text. What is checked here is all that an
adapter needs to be opened, so that `penstock check` and the delivery read an app the same way. Secrets: `${NAME}` in
a value stands for the file NAME in the folder of secrets (`outlets.secrets`), read when the outlet is opened.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError, field_validator

from penstock.model.durations import duration_ms
from penstock.outlets.places import database_url, folder_path, http_url, table_place, websocket_url

__all__ = ["OUTLETS", "DatabaseUrl", "Duration", "FileOutletOptions", "Folder", "Headers", "HttpOutletOptions",
           "HttpUrl", "JdbcOutletOptions", "JdbcTable", "KafkaOutletOptions", "OptionError", "OutletOptions",
           "UpsertKafkaOutletOptions", "WebSocketOutletOptions", "WebSocketUrl", "read_model",
           "read_outlet_options"]  # fmt: skip

_HEADER = "header."
_SERVERS = r"^[^\s,:/]+:[0-9]{1,5}(?:\s*,\s*[^\s,:/]+:[0-9]{1,5})*$"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110 section 5.1, token
_OWN_HEADERS = frozenset({"content-type", "content-length", "transfer-encoding", "host", "idempotency-key"})


Options = TypeVar("Options", bound=BaseModel)


class OptionError(ValueError):
    """What is wrong with one option (`name`; empty: with all of them together) and what to write instead."""

    def __init__(self, name: str, message: str, remedy: str, *, missing: bool = False, unknown: bool = False) -> None:
        super().__init__(f"{message} {remedy}")
        self.name, self.message, self.remedy = name, message, remedy
        self.missing, self.unknown = missing, unknown


def _seconds(text: object) -> object:
    if not isinstance(text, str):
        return text
    ms = duration_ms(text)
    if ms is None:
        raise ValueError("write a number and a unit, such as '500 ms', '10 s', '1 min'")
    return ms / 1000


def _sendable(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if _HEADER_NAME.fullmatch(name) is None or not value.isprintable():
            raise ValueError(f"'{name[:40]}' is no header that can be sent")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"'{name}' is set by the delivery; remove it")
    return headers


Headers = Annotated[Mapping[str, str], AfterValidator(_sendable)]
Duration = Annotated[float, BeforeValidator(_seconds)]  # seconds
HttpUrl = Annotated[str, AfterValidator(http_url)]
WebSocketUrl = Annotated[str, AfterValidator(websocket_url)]
DatabaseUrl = Annotated[str, AfterValidator(database_url)]
Folder = Annotated[str, AfterValidator(folder_path)]


class OutletOptions(BaseModel, frozen=True, extra="forbid"):
    """What every connector that is written to has. The delivery keeps these; the rest is the adapter's."""

    connector: str
    max_rows: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        alias="sink.buffer-flush.max-rows",
        description="Rows that are delivered at once, at most.",
    )
    flush_interval_s: Duration = Field(
        default=0.0, ge=0, le=86_400, alias="sink.buffer-flush.interval",
        description="How long rows may wait for others to be delivered with; '0 s': they do not.",
    )  # fmt: skip
    max_retries: int | None = Field(
        default=None, ge=0, le=1_000_000, alias="sink.max-retries",
        description="After so many retries rows go to the rejected events (`delivery_failed`); without it they wait "
        "until the other side answers.",
    )  # fmt: skip

    def unfit(self, *, is_table: bool, columns: Collection[str]) -> OptionError | None:
        """Why a table with (`is_table`) or without a primary key cannot be delivered so; None if it can."""
        return None


class _Endpoint(OutletOptions, frozen=True):
    """What endpoints of others have that rows are sent to."""

    format: Literal["json"] = Field(description="'json'.")
    timeout_s: Duration = Field(
        default=30.0, gt=0, le=600, alias="request.timeout", description="Longest wait for an answer."
    )
    headers: Headers = Field(
        default_factory=dict, alias="header.*", description="'header.Name' = 'value': sent with every request."
    )


class HttpOutletOptions(_Endpoint, frozen=True):
    """`'connector' = 'http'`."""

    url: HttpUrl = Field(description="Where requests go.")
    method: Literal["POST", "PUT"] = Field(default="POST", description="POST or PUT.")
    body: Literal["array", "lines", "object"] = Field(
        default="array",
        description="'array': one JSON array a request; 'lines': NDJSON; 'object': one row a request, as an object.",
    )


class WebSocketOutletOptions(_Endpoint, frozen=True):
    """`'connector' = 'websocket'`, written to."""

    url: WebSocketUrl = Field(description="The server.")
    body: Literal["array", "lines", "object"] = Field(
        default="object",
        description="'object': one row a message; 'array': a JSON array of rows; 'lines': NDJSON.",
    )


class FileOutletOptions(OutletOptions, frozen=True):
    """`'connector' = 'file'`, or 'filesystem', as Flink calls it."""

    path: Folder = Field(description="The folder that files are written into; it is made.")
    format: Literal["json", "csv", "parquet"] = Field(description="'json' (NDJSON), 'csv' or 'parquet'.")
    max_rows: int = Field(
        default=100_000, ge=1, le=1_000_000, alias="sink.rolling-policy.max-rows", description="Rows of one file."
    )
    flush_interval_s: Duration = Field(
        default=10.0, ge=0, le=86_400, alias="sink.rolling-policy.rollover-interval",
        description="How long rows may wait for others to share a file with.",
    )  # fmt: skip


class JdbcTable(BaseModel, frozen=True):
    """Which table of which database, and as whom."""

    url: DatabaseUrl = Field(description="The database: jdbc:postgresql://host:port/database or jdbc:sqlite:/path.")
    table_name: str = Field(alias="table-name", description="Its table, which must exist: name or schema.name.")
    username: str | None = Field(default=None, description="User of PostgreSQL.")
    password: SecretStr | None = Field(default=None, description="Its password, best as ${NAME}.")

    @field_validator("table_name")
    @classmethod
    def _names_a_table(cls, text: str) -> str:
        table_place(text)
        return text


class JdbcOutletOptions(JdbcTable, OutletOptions, frozen=True):
    """`'connector' = 'jdbc'`."""

    timeout_s: Duration = Field(
        default=30.0, ge=1, le=600, alias="connection.max-retry-timeout",
        description="Longest wait for a connection and for one transaction.",
    )  # fmt: skip


class _Brokers(OutletOptions, frozen=True):
    """What both connectors to Kafka have; names of clients' settings are those of the library (librdkafka)."""

    topic: str = Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$", description="The topic; it must exist.")
    servers: str = Field(
        alias="properties.bootstrap.servers",
        pattern=_SERVERS,
        description="Its brokers: host:port, with commas between.",
    )
    delivery: Literal["at-least-once", "exactly-once"] = Field(
        default="at-least-once", alias="sink.delivery-guarantee",
        description="'at-least-once', or 'exactly-once' for readers with isolation.level=read_committed.",
    )  # fmt: skip
    id_prefix: str = Field(
        default="penstock", alias="sink.transactional-id-prefix", pattern=r"^[a-zA-Z0-9._-]{1,100}$",
        description="Begins the transactional ids and groups: one per log that delivers to these brokers.",
    )  # fmt: skip
    timeout_s: Duration = Field(
        default=30.0, ge=1, le=600, alias="properties.delivery.timeout",
        description="Longest wait for brokers to acknowledge a batch.",
    )  # fmt: skip
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        alias="properties.security.protocol",
        description="PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL.",
    )
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, alias="properties.sasl.mechanism", description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
    )
    username: str | None = Field(default=None, alias="properties.sasl.username", description="The user.")
    password: SecretStr | None = Field(
        default=None, alias="properties.sasl.password", description="The password, best as ${NAME}."
    )
    ca_file: str | None = Field(
        default=None,
        alias="properties.ssl.ca.location",
        description="PEM file of who may sign brokers' certificates.",
    )

    @property
    def upserts(self) -> bool:
        """Whether records are the newest rows of keys."""
        return False

    @property
    def key_names(self) -> tuple[str, ...]:
        """Columns of the record's key, where the table has no primary key."""
        return ()

    def client_config(self) -> dict[str, str]:
        """Settings of the library's clients."""
        given = {
            "bootstrap.servers": self.servers, "security.protocol": self.protocol, "sasl.mechanism": self.mechanism,
            "sasl.username": self.username, "ssl.ca.location": self.ca_file,
            "sasl.password": None if self.password is None else self.password.get_secret_value(),
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


class KafkaOutletOptions(_Brokers, frozen=True):
    """`'connector' = 'kafka'`: rows are appended."""

    format: Literal["json"] = Field(description="'json': one JSON object a record.")
    key_format: Literal["json"] | None = Field(
        default=None, alias="key.format", description="'json', with 'key.fields'."
    )
    key_fields: str | None = Field(
        default=None, alias="key.fields", description="Columns of the key, with ; between."
    )

    @property
    def key_names(self) -> tuple[str, ...]:
        """Columns of the record's key."""
        return () if self.key_fields is None else tuple(name.strip() for name in self.key_fields.split(";"))

    def unfit(self, *, is_table: bool, columns: Collection[str]) -> OptionError | None:
        """Rows that change need a key in the topic, and a key needs columns."""
        if is_table:
            return OptionError("connector", "Rows of a table with a primary key change, and 'kafka' only appends.",
                               "Write 'connector' = 'upsert-kafka', or remove the PRIMARY KEY.")  # fmt: skip
        if (self.key_format is None) != (self.key_fields is None):
            return OptionError("key.fields", "'key.fields' and 'key.format' belong together.",
                               "Write both, or none of them.")  # fmt: skip
        unknown = [name for name in self.key_names if name not in columns]
        if unknown:
            return OptionError("key.fields", f"'key.fields' names '{unknown[0]}', which is no column.",
                               f"Columns are {', '.join(columns)}.")  # fmt: skip
        return None


class UpsertKafkaOutletOptions(_Brokers, frozen=True):
    """`'connector' = 'upsert-kafka'`: the newest row of each key, no value where it was deleted."""

    key_format: Literal["json"] = Field(alias="key.format", description="'json'.")
    value_format: Literal["json"] = Field(alias="value.format", description="'json'.")

    @property
    def upserts(self) -> bool:
        """See the class."""
        return True

    def unfit(self, *, is_table: bool, columns: Collection[str]) -> OptionError | None:
        """The key of a record is the primary key."""
        if is_table:
            return None
        return OptionError("connector", "'upsert-kafka' writes the newest row of each key, and the table has none.",
                           "Add PRIMARY KEY (...) NOT ENFORCED, or write 'connector' = 'kafka'.")  # fmt: skip


#: Connectors that tables which are written to may have, and their options.
OUTLETS: Mapping[str, type[OutletOptions]] = {
    "http": HttpOutletOptions,
    "websocket": WebSocketOutletOptions,
    "file": FileOutletOptions,
    "filesystem": FileOutletOptions,
    "jdbc": JdbcOutletOptions,
    "kafka": KafkaOutletOptions,
    "upsert-kafka": UpsertKafkaOutletOptions,
}


def read_outlet_options(connector: str, written: Mapping[str, str]) -> OutletOptions | list[OptionError]:
    """The options of a connector of `OUTLETS`, or everything that is wrong with them.

    `written`: the options that are the connector's (none of Penstock's own, such as `publish`).
    """
    return read_model(OUTLETS[connector], connector, written)


def read_model(model: type[Options], connector: str, written: Mapping[str, str]) -> Options | list[OptionError]:
    """A model's options, or everything that is wrong with them; see `read_outlet_options`."""
    given: dict[str, Any] = {"connector": connector}
    headers = {name[len(_HEADER) :]: text for name, text in written.items() if name.startswith(_HEADER)}
    takes_headers = "headers" in model.model_fields
    if takes_headers and headers:
        given[_HEADER + "*"] = headers
    given |= {
        name: text for name, text in written.items()
        if name != "connector" and not (takes_headers and name.startswith(_HEADER))
    }  # fmt: skip
    try:
        return model.model_validate(given)
    except ValidationError as refused:
        return [_explained(model, dict(error), written) for error in refused.errors()]


def _explained(model: type[BaseModel], error: Mapping[str, Any], written: Mapping[str, str]) -> OptionError:
    name = str(error["loc"][0]) if error["loc"] else ""
    fields = {field.alias or key: field for key, field in model.model_fields.items()}
    meaning = fields[name].description or "" if name in fields else ""
    value = str(error["input"])[:80]
    if name == _HEADER + "*":
        name = next((known for known in written if known.startswith(_HEADER)), name)
        value = written.get(name, value)
    match error["type"]:
        case "extra_forbidden":
            names = ", ".join(sorted(set(fields) - {"connector"}))
            remedy = f"Options of this connector are {names}."
            return OptionError(name, f"There is no option '{name}'.", remedy, unknown=True)
        case "missing":
            return OptionError(name, f"This connector needs '{name}'.", meaning, missing=True)
        case _:
            why = str(error["msg"]).removeprefix("Value error, ")
            return OptionError(name, f"'{value}' is no value of '{name}': {why}.", meaning)
