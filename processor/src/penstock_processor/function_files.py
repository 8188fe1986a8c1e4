"""Python files beside apps, as the source of their functions."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from threading import Lock
from traceback import walk_tb
from types import CodeType, ModuleType

from penstock.errors import PenstockError
from penstock.python_functions import AggregateFunction, ScalarFunction

__all__ = ["FunctionFiles"]

_REFERENCE = re.compile(r"([A-Za-z_]\w*)\.([A-Za-z_]\w*)")


class FunctionFiles:
    """`units.celsius` is the function `celsius` of the first `units.py` in `folders`. A changed file is read again.

    The code runs in this process: whoever may write these folders may do what the process may.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._modules: dict[Path, tuple[tuple[int, int], ModuleType]] = {}
        self._turn = Lock()  # apps are planned in several threads

    def load(self, reference: str) -> ScalarFunction | AggregateFunction:
        """See `FunctionSource`."""
        form = _REFERENCE.fullmatch(reference)
        if form is None:
            raise PenstockError("bad_request", f"'{reference}' is no place of a function; write 'file.function'")
        with self._turn:
            module = self._module(form[1])
        found = getattr(module, form[2], None)
        if found is None:
            raise PenstockError(
                "bad_request",
                f"the file {module.__file__} has no '{form[2]}'; define it there, with @scalar(...) above it",
            )
        if not isinstance(found, ScalarFunction | AggregateFunction):
            raise PenstockError(
                "bad_request",
                f"'{form[2]}' of {module.__file__} has no types; write @scalar(arguments=[...], returns='...') above",
            )
        return found

    def _module(self, name: str) -> ModuleType:
        path = next((found for folder in self._folders if (found := folder / f"{name}.py").is_file()), None)
        if path is None:
            folders = ", ".join(map(str, self._folders)) or "no folder"
            raise PenstockError("bad_request", f"there is no {name}.py in {folders}; put it beside the app")
        state = path.stat()
        mark = (state.st_mtime_ns, state.st_size)
        known = self._modules.get(path)
        if known is None or known[0] != mark:
            known = self._modules[path] = mark, _loaded(path)
        return known[1]


class _AsWritten(SourceFileLoader):
    """Without files of bytecode: these are told apart by seconds, and a file may change within one."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _loaded(path: Path) -> ModuleType:
    name = f"penstock_functions.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_AsWritten(name, str(path)))
    assert spec is not None  # there is a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the app's own code may raise anything
        del sys.modules[name]
        place = f"{path}{_line_of(error, path)}"
        raise PenstockError("bad_request", f"the file {place} does not load: {error!r}; correct the file") from error
    return module


def _line_of(error: BaseException, path: Path) -> str:
    """`:line` of the file that was at work; nothing where it is not known, or the error's own words say it."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
    return f":{lines[-1]}" if lines else ""
