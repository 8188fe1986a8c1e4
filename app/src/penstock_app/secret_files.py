"""Settings whose value is in a file: `PENSTOCK_STORE_URL_FILE=/run/secrets/store-url`, as containers get secrets.

Any setting can be given so: `_FILE` behind its environment name. The text of the file without blanks and line ends
around it is the value, as if the variable held it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from penstock.errors import PenstockError

__all__ = ["FileValues", "read_secret_files"]

_PREFIX = "PENSTOCK_"
_SUFFIX = "_FILE"


@dataclass(frozen=True, slots=True)
class FileValues:
    """Nested values by section and key, and the environment names that they came from."""

    values: dict[str, Any] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)


def read_secret_files(environment: Mapping[str, str], model: type[BaseModel]) -> FileValues:
    """The values of every `PENSTOCK_..._FILE` that names a setting of `model`; settings that end so are left alone.

    `bad_request` for a file that cannot be read, and for a setting that is given both ways. Blocking.
    """
    found = FileValues()
    for name, place in environment.items():
        path = _path_of(name)
        if path is None or not place or _is_setting(path, model):
            continue
        inner = [*path[:-1], path[-1].removesuffix(_SUFFIX.lower())]
        if not _is_setting(inner, model):
            continue
        direct = name[: -len(_SUFFIX)]
        if environment.get(direct):
            raise PenstockError("bad_request", f"environment: both {direct} and {name} are set; take one away")
        section = found.values
        for part in inner[:-1]:
            section = section.setdefault(part, {})
        section[inner[-1]] = _text_of(name, Path(place))
        found.names.add(name)
    return found


def _path_of(name: str) -> list[str] | None:
    if not (name.startswith(_PREFIX) and name.endswith(_SUFFIX)):
        return None
    return name.removeprefix(_PREFIX).lower().split("__")


def _is_setting(path: list[str], model: type[BaseModel]) -> bool:
    inner: Any = model
    for part in path:
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)) or part not in inner.model_fields:
            return False
        inner = inner.model_fields[part].annotation
    return not (isinstance(inner, type) and issubclass(inner, BaseModel))


def _text_of(name: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PenstockError("bad_request", f"environment: {name}={path}: {reason}") from error
