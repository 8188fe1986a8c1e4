"""All settings of a process, from flags, a TOML file and the environment (`PENSTOCK_HTTP__PORT=9000`).

Each package owns its section; this file only puts them together. `docs/settings.md` is generated from here.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from penstock.errors import PenstockError
from penstock.http.listener import HttpSettings
from penstock.logs.settings import LogSettings
from penstock.observe.settings import TracesSettings
from penstock.stores.settings import StoreSettings
from penstock_app.cases.settings import CaseSettings
from penstock_app.sample_settings import SampleSettings
from penstock_app.secret_files import read_secret_files
from penstock_app.services_settings import DEFAULT_PORTS, ServicesSettings
from penstock_data.settings import DataSettings
from penstock_ingest.settings import IngestSettings
from penstock_processor.settings import ProcessorSettings
from penstock_publish.settings import AuthSettings, PublishSettings

__all__ = ["PenstockSettings", "load_settings", "with_default_port"]


class PenstockSettings(BaseSettings):
    """Everything a process can be told. Precedence: flags, environment, file, default."""

    model_config = SettingsConfigDict(
        env_prefix="PENSTOCK_", env_nested_delimiter="__", frozen=True, extra="forbid", env_ignore_empty=True
    )

    data: Path = Field(default=Path("penstock-data"), description="Folder of everything that must survive a restart.")
    log_url: str | None = Field(default=None, description="Where streams live; default `sqlite:///<data>`.")
    store_url: str | None = Field(
        default=None, description="The data service's database; the file `store.db` in `sqlite:///<data>`."
    )
    public_url: str | None = Field(
        default=None, description="URL that clients use (issuer of tokens); default: the listener's."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error."
    )
    lag_interval_s: float = Field(
        default=2.0, gt=0, description="How often the lag of apps and of the store is measured for /metrics."
    )
    log_watch_interval_s: float = Field(
        default=1.0, gt=0, le=60, description="How often a process asks its log whether it answers, for /readyz."
    )
    log_watch_timeout_s: float = Field(
        default=3.0, gt=0, le=60, description="How long the log may take to answer before it counts as not available."
    )
    http: HttpSettings = Field(default_factory=HttpSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    ingest: IngestSettings = Field(default_factory=IngestSettings)
    processor: ProcessorSettings = Field(default_factory=ProcessorSettings)
    publish: PublishSettings = Field(default_factory=PublishSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    data_service: DataSettings = Field(default_factory=DataSettings)
    services: ServicesSettings = Field(default_factory=ServicesSettings)
    traces: TracesSettings = Field(default_factory=TracesSettings)
    sample: SampleSettings = Field(default_factory=SampleSettings)
    test: CaseSettings = Field(default_factory=CaseSettings)

    @property
    def log_address(self) -> str:
        """URL of the log, with the default filled in."""
        return self.log_url or f"sqlite:///{self.data}"

    @property
    def archive_folder(self) -> Path:
        """Folder of the archive's files, with the default filled in."""
        return self.data_service.archive.folder or self.data / "archive"

    @property
    def store_address(self) -> str:
        """URL of the store, with the default filled in."""
        return self.store_url or f"sqlite:///{self.data}"


def load_settings(config: Path | None, flags: dict[str, Any]) -> PenstockSettings:
    """Settings from `--config`, the environment and `flags` (nested; None means not given).

    A variable may name a file that holds the value (`PENSTOCK_STORE_URL_FILE`). `bad_request` names the key that is
    wrong and what is allowed.
    """
    given = _without_none(flags)
    try:
        from_files = read_secret_files(os.environ, PenstockSettings)
        _refuse_unknown_variables(set(os.environ) - from_files.names)
        file = tomllib.loads(config.read_text()) if config else {}
        _refuse_unknown(file, PenstockSettings, prefix="")
        environment = PenstockSettings().model_dump(exclude_unset=True)
        environment = _merged(environment, from_files.values)
        return PenstockSettings.model_validate(_merged(_merged(file, environment), given))
    except OSError as error:
        raise PenstockError("bad_request", f"--config {config}: {error.strerror}") from error
    except SettingsError as error:
        raise PenstockError("bad_request", f"environment: {error}; see docs/settings.md") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PenstockError("bad_request", f"--config {config}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise PenstockError("bad_request", f"setting {key}: {first['msg']}; see docs/settings.md") from error


def with_default_port(settings: PenstockSettings, roles: Collection[str]) -> PenstockSettings:
    """The port of the roles' own, where none was given: that of publish if it is among them."""
    if "port" in settings.http.model_fields_set:
        return settings
    port = next(port for role, port in DEFAULT_PORTS.items() if role in roles)
    return settings.model_copy(update={"http": settings.http.model_copy(update={"port": port})})


def _refuse_unknown(values: Mapping[str, Any], model: type[BaseModel], *, prefix: str) -> None:
    """A key that nothing reads is a mistake: without this it would be passed over in silence."""
    for key, value in values.items():
        field = model.model_fields.get(key)
        if field is None:
            near = difflib.get_close_matches(key, list(model.model_fields), n=1)
            meant = f", did you mean {prefix}{near[0]}?" if near else ";"
            raise PenstockError("bad_request", f"there is no setting {prefix}{key}{meant} see docs/settings.md")
        section = field.annotation
        if isinstance(value, Mapping) and isinstance(section, type) and issubclass(section, BaseModel):
            _refuse_unknown(value, section, prefix=f"{prefix}{key}.")


def _refuse_unknown_variables(names: Iterable[str]) -> None:
    """Variables of a section (`PENSTOCK_HTTP__PORT`); others may belong to whoever starts the process."""
    for name in names:
        *sections, key = name.lower().removeprefix("penstock_").split("__")
        if name.upper().startswith("PENSTOCK_") and sections:
            values: dict[str, Any] = {key: None}
            for section in reversed(sections):
                values = {section: values}
            _refuse_unknown(values, PenstockSettings, prefix="")


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            value = _without_none(value)
            if not value:
                continue
        if value is not None:
            kept[key] = value
    return kept


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            value = _merged(result[key], value)
        result[key] = value
    return result
