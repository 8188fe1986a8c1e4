"""Secrets in options: `${NAME}` stands for the text of the file NAME in one folder, so that no app text holds them.

Such a folder is what Docker and Kubernetes mount secrets into. Only names are looked up, never paths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from penstock.ports.outlet import OutletUnavailable

__all__ = ["filled", "names_of"]

_PLACE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SECRET_MAX_BYTES = 64 * 1024


def names_of(text: str) -> list[str]:
    """Names of the secrets that a text asks for."""
    return _PLACE.findall(text)


def filled(options: Mapping[str, str], folder: Path | None) -> dict[str, str]:
    """The options with every `${NAME}` replaced, a line break at a file's end left out. Blocks: reads files.

    OutletUnavailable, which names the file and never its content, if one cannot be read.
    """
    return {name: _filled(text, folder, name) for name, text in options.items()}


def _filled(text: str, folder: Path | None, option: str) -> str:
    return _PLACE.sub(lambda place: _secret(place[1], folder, option), text)


def _secret(name: str, folder: Path | None, option: str) -> str:
    if folder is None:
        raise OutletUnavailable(
            f"'{option}' asks for the secret '{name}' and there is no folder of secrets; set processor.secrets_folder"
        )
    if _NAME.fullmatch(name) is None:
        raise OutletUnavailable(f"'{option}' asks for '{name[:40]}', which names no file of {folder}")
    try:
        with (folder / name).open("rb") as file:
            return file.read(_SECRET_MAX_BYTES).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise OutletUnavailable(f"the secret '{name}' that '{option}' asks for, {folder / name}: {why}") from error
