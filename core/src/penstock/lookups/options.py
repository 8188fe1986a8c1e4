"""Options of tables that are looked up: one model each, read from the texts of `WITH ('name' = 'text')`. Pure.

Names are Flink's where Flink has them; a field's alias is the name in the text. Secrets: `${NAME}` in a value stands
for the file NAME in the folder of secrets (`outlets.secrets`), read when the place is opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from penstock.outlets.options import Duration, Headers, HttpUrl, JdbcTable, OptionError

__all__ = ["LOOKUPS", "HttpLookupOptions", "JdbcLookupOptions", "LookupOptions", "read_lookup_options"]

_HEADER = "header."
_PLACE = re.compile(r"(?<!\$)\{([^{}]+)\}")
_ELSEWHERE = frozenset({"", ".", ".."})  # RFC 3986 section 5.2.4
CACHE_ROWS_MAX = 1_000_000


class LookupOptions(BaseModel, frozen=True, extra="forbid"):
    """What every table that is looked up has. The caller keeps these; the rest is the adapter's."""

    connector: str
    cache: Literal["NONE", "PARTIAL"] = Field(
        default="NONE", alias="lookup.cache",
        description="'PARTIAL' keeps what was looked up, 'NONE' (default) asks anew in every cycle.",
    )  # fmt: skip
    cache_rows_max: int | None = Field(
        default=None, ge=1, le=CACHE_ROWS_MAX, alias="lookup.partial-cache.max-rows",
        description="Keys that are kept, at most; those used last stay. Needed by 'PARTIAL'.",
    )  # fmt: skip
    expire_after_write_s: Duration | None = Field(
        default=None, gt=0, alias="lookup.partial-cache.expire-after-write",
        description="How long after it was looked up a key is asked for again.",
    )  # fmt: skip
    expire_after_access_s: Duration | None = Field(
        default=None, gt=0, alias="lookup.partial-cache.expire-after-access",
        description="How long after its last use a key is forgotten.",
    )  # fmt: skip
    cache_missing: bool = Field(
        default=True, alias="lookup.partial-cache.cache-missing-key",
        description="'true' (default): that a key has no row is kept, too.",
    )  # fmt: skip
    max_retries: int = Field(
        default=3, ge=0, le=100, alias="lookup.max-retries", description="Retries of a lookup that fails."
    )
    on_failure: Literal["stop", "reject"] = Field(
        default="stop", alias="lookup.on-failure",
        description="After that: 'stop' (default), the app waits and tries again; 'reject', events are rejected.",
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, given: Any) -> Any:
        """`lookup.cache.max-rows` and `lookup.cache.ttl`, as Flink's JDBC connector called them, mean a cache."""
        if not isinstance(given, dict) or not {"lookup.cache.max-rows", "lookup.cache.ttl"} & set(given):
            return given
        known = {"lookup.cache": "PARTIAL", **given}
        for old, new in (("max-rows", "max-rows"), ("ttl", "expire-after-write")):
            if (value := known.pop(f"lookup.cache.{old}", None)) is not None:
                known.setdefault(f"lookup.partial-cache.{new}", value)
        return known

    @model_validator(mode="after")
    def _bounded(self) -> LookupOptions:
        if self.cache == "PARTIAL" and self.cache_rows_max is None:
            raise ValueError("a cache needs its bound: write 'lookup.partial-cache.max-rows' = '10000'")
        return self

    @property
    def key_names(self) -> tuple[str, ...] | None:
        """The columns that rows are asked for by; None: those that a join has equalities with."""
        return None


class JdbcLookupOptions(JdbcTable, LookupOptions, frozen=True):
    """`'connector' = 'jdbc'`."""

    timeout_s: Duration = Field(
        default=10.0, ge=1, le=600, alias="connection.max-retry-timeout",
        description="Longest wait for a connection and for one query.",
    )  # fmt: skip


class HttpLookupOptions(LookupOptions, frozen=True):
    """`'connector' = 'http'`: GET; the reply is a JSON object, an array of them, or 404 (or 204) for no row."""

    url: HttpUrl = Field(
        description="Where a key is asked for, columns of the key in braces: http://host/users/{id}."
    )
    timeout_s: Duration = Field(
        default=10.0, gt=0, le=600, alias="request.timeout", description="Longest wait for a reply."
    )
    headers: Headers = Field(
        default_factory=dict, alias="header.*", description="'header.Name' = 'value': sent with every request."
    )

    @field_validator("url")
    @classmethod
    def _has_places(cls, text: str) -> str:
        host, _, rest = text.partition("//")[2].partition("/")
        if not _PLACE.search(rest) or _PLACE.search(host):  # who sends events does not say who is asked
            raise ValueError("name a column of the key in braces behind the host: http://host/users/{id}")
        return text

    @property
    def key_names(self) -> tuple[str, ...]:
        """The columns in braces."""
        return tuple(dict.fromkeys(_PLACE.findall(self.url)))

    def url_of(self, values: Mapping[str, str]) -> str | None:
        """The URL with values, already quoted, in place of the braces.

        None where a part of the path would be empty, `.` or `..`: that is another place, which no quoting avoids.
        """
        url = self._with(self.url, values)
        parts = [part for part in self.url.partition("?")[0].split("/")[3:] if _PLACE.search(part)]
        return None if any(self._with(part, values) in _ELSEWHERE for part in parts) else url

    @staticmethod
    def _with(text: str, values: Mapping[str, str]) -> str:
        return _PLACE.sub(lambda place: values[place[1]], text)


LOOKUPS: dict[str, type[LookupOptions]] = {"jdbc": JdbcLookupOptions, "http": HttpLookupOptions}


def read_lookup_options(connector: str, written: Mapping[str, str]) -> LookupOptions | list[OptionError]:
    """The options of a connector of `LOOKUPS`, or everything that is wrong with them."""
    model = LOOKUPS[connector]
    headers = {name[len(_HEADER) :]: text for name, text in written.items() if name.startswith(_HEADER)}
    given: dict[str, Any] = {name: text for name, text in written.items() if not name.startswith(_HEADER)}
    if headers:
        given[f"{_HEADER}*"] = headers
    try:
        return model.model_validate({**given, "connector": connector})
    except ValidationError as refused:
        return [_explained(model, dict(error)) for error in refused.errors()]


def _explained(model: type[LookupOptions], error: Mapping[str, Any]) -> OptionError:
    name = str(error["loc"][0]) if error["loc"] else ""
    fields = {field.alias or key: field for key, field in model.model_fields.items()}
    meaning = (fields[name].description or "") if name in fields else ""
    match error["type"]:
        case "extra_forbidden":
            remedy = f"Options of a table that is looked up are {', '.join(sorted(set(fields) - {'connector'}))}."
            return OptionError(name, f"There is no option '{name}'.", remedy, unknown=True)
        case "missing":
            return OptionError(name, f"This connector needs '{name}'.", meaning, missing=True)
        case _:
            why = str(error["msg"]).removeprefix("Value error, ")
            what = f"'{str(error['input'])[:80]}' is no value of '{name}'" if name else "The options do not fit"
            return OptionError(name, f"{what}: {why}.", meaning or "Correct the options.")
