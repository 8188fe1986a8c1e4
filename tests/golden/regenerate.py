"""`make golden`: results of a real Apache Flink for the cases that have none. Needs Java 17 and, once, 850 MB.

Flink is installed into an environment of its own in the cache folder of the tests (`PENSTOCK_TEST_CACHE`, else
`penstock-tests` below the user's cache folder). Words on the command line name files to ask again as a whole.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from golden.golden_cases import FLINK_VERSION, function_files, unanswered
from golden.golden_engine import run_functions

_INSTALL_S = 1800.0
#: Only the first tier of the compiler: many short jobs, few of them alike.
_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
_TESTS = Path(__file__).parents[1]
_LOCK = _TESTS.parent / "requirements" / "flink.txt"


def main() -> None:
    """Install where it is missing, then ask."""
    if not sys.argv[1:] and not unanswered():
        print("every case has its result")
        return
    if shutil.which("java") is None:
        sys.exit("Flink runs on Java 17: install openjdk-17-jre-headless")
    python = flink_python()
    rejected = {
        functions.file: {
            expression: [row for row, value in enumerate(given.rows, 1) if isinstance(value, dict)]
            for expression, given in run_functions(functions, "whole").items()
        }
        for functions in function_files()
    }
    subprocess.run(
        [str(python), "-m", "golden.ask_flink", *sys.argv[1:]],
        input=json.dumps(rejected).encode(),
        env={**os.environ, "PYTHONPATH": f"{_TESTS}{os.pathsep}{_TESTS.parent}", "JAVA_TOOL_OPTIONS": _JAVA},
        check=True,
    )


def flink_python() -> Path:
    """The interpreter that has Flink; installed once, under another name until it is whole."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = Path(os.environ.get("PENSTOCK_TEST_CACHE", cache / "penstock-tests")) / f"flink-{FLINK_VERSION}"
    python = folder / "bin" / "python"
    whole = folder / "whole"
    if not whole.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder.parent).free < 3 << 30:
            sys.exit(f"{folder.parent} has less than 3 GB free; set PENSTOCK_TEST_CACHE to a folder elsewhere")
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes"]
        with tempfile.TemporaryDirectory() as build:
            subprocess.run(
                [*command, "-r", str(_LOCK)], check=True, timeout=_INSTALL_S, env={**os.environ, "TMPDIR": build}
            )
        whole.touch()
    return python


if __name__ == "__main__":
    main()
