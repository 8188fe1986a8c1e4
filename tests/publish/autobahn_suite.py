"""The real Autobahn test suite: installed once, let loose on the WebSocket edge, its report read.

The suite is written in Python 2, so it needs a Python 2.7: `python2.7` on the PATH, one of pyenv's, or the one that
PENSTOCK_PYTHON2 names. Its packages (`requirements/autobahn.txt`) go into the cache folder of the tests
(`PENSTOCK_TEST_CACHE`, else `penstock-tests` below the user's cache folder). As a program (`make autobahn`) this runs
every case, some minutes long, and prints the table of docs/protocol.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from publish.websocket_echo import ECHO_PATH, echo_edge

__all__ = ["EDGE", "INFORMATIONAL", "Outcome", "install", "missing", "run_cases"]

#: Settings of the edge: cases 9 send messages of 16 MiB.
EDGE = {"inbound_bytes_max": 16 * 1024 * 1024}
#: The suite does not say what is right here (RFC 6455 leaves it open); the code with which the edge must close.
INFORMATIONAL = {
    "7.1.6": 1000,  # 256 KiB, a message, a close and a ping at once: both are sent back before the close is answered
    "7.13.1": 1002,  # a close with 5000, which is no code that may be sent
    "7.13.2": 1002,  # a close with 65535: likewise
}

_LOCK = Path(__file__).parents[2] / "requirements" / "autobahn.txt"
_AGENT = "penstock"
_INSTALL_S = 600.0
_WHOLE_S = 3600.0
_TITLES = {"1": "framing", "2": "pings", "3": "reserved bits", "4": "opcodes", "5": "fragments", "6": "UTF-8",
           "7": "closing", "9": "size and pace", "10": "automatic fragments", "12": "compression, payloads",
           "13": "compression, parameters"}  # fmt: skip
#: `site` reads the .pth files by which Python 2 knows namespace packages.
_LAUNCHER = (
    "import site, sys; folder = sys.argv.pop(1); site.addsitedir(folder); sys.path.insert(0, folder); "
    "from autobahntestsuite.wstest import run; run()"
)


@dataclass(frozen=True)
class Outcome:
    """How a case ended, in the suite's words (OK, NON-STRICT, INFORMATIONAL, UNIMPLEMENTED, FAILED, ...)."""

    behavior: str
    closing: str
    close_code: int | None
    duration_ms: int

    @property
    def passed(self) -> bool:
        """Strictly, and closed as it should be."""
        return self.behavior == self.closing == "OK"


def missing() -> str | None:
    """What this machine lacks to run the suite, with the remedy; None if nothing."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return "the suite is pinned for Linux on x86-64"
    if _python2() is None:
        return "install a Python 2.7 with pip and name it in PENSTOCK_PYTHON2"
    if shutil.which("cc") is None and not _packages_folder().is_dir():
        return "install a C compiler, for the part of the suite that masks and checks texts"
    return None


def install() -> Path:
    """The folder of the suite's packages, filled once: first another one, so that a half filled one is never used."""
    folder = _packages_folder()
    if folder.is_dir():
        return folder
    python = _python2()
    assert python is not None, missing()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as half:
        command = [python, "-s", "-E", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pinned = ["--require-hashes", "--no-deps", "--target", f"{half}/packages", "-r", str(_LOCK)]
        done = subprocess.run([*command, *pinned], capture_output=True, text=True, timeout=_INSTALL_S, check=False)
        if done.returncode:
            raise RuntimeError(f"the suite could not be installed:\n{done.stderr[-3000:]}")
        try:
            (Path(half) / "packages").rename(folder)
        except OSError:  # another test run was faster
            if not folder.is_dir():
                raise
    return folder


async def run_cases(
    port: int, cases: Sequence[str], folder: Path, *, excluded: Sequence[str] = (), within_s: float
) -> dict[str, Outcome]:
    """Outcomes by number of the case; `cases` and `excluded` as the suite wants them: `1.*`, `9.3.2`.

    The whole report, page by page, is then in `folder`. RuntimeError with the end of its output if the suite fails.
    """
    packages, python = await asyncio.to_thread(install), _python2()
    assert python is not None, missing()
    spec = {
        "outdir": str(folder / "report"),
        "servers": [{"agent": _AGENT, "url": f"ws://127.0.0.1:{port}{ECHO_PATH}"}],
        "cases": list(cases),
        "exclude-cases": list(excluded),
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    words = ["-s", "-E", "-u", "-c", _LAUNCHER, str(packages), "-m", "fuzzingclient", "-s", str(folder / "spec.json")]
    with (folder / "output").open("wb") as sink:
        process = await asyncio.create_subprocess_exec(python, *words, stdout=sink, stderr=sink, cwd=folder)
        try:
            await asyncio.wait_for(process.wait(), within_s)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    index = folder / "report" / "index.json"
    if process.returncode or not index.exists():
        raise RuntimeError(f"the suite failed:\n{(folder / 'output').read_text(errors='replace')[-3000:]}")
    return {
        number: Outcome(found["behavior"], found["behaviorClose"], found["remoteCloseCode"], found["duration"])
        for number, found in json.loads(index.read_text())[_AGENT].items()
    }


def _packages_folder() -> Path:
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    pins = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    return Path(os.environ.get("PENSTOCK_TEST_CACHE", cache_folder / "penstock-tests")) / f"autobahn-{pins}"


@cache
def _python2() -> str | None:
    """A Python 2.7 that has pip."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    of_pyenv = sorted(map(str, pyenv.glob("versions/2.7.*/bin/python2.7")), reverse=True)
    for candidate in (os.environ.get("PENSTOCK_PYTHON2"), shutil.which("python2.7"), *of_pyenv):
        if candidate is not None and _is_python2(candidate):
            return candidate
    return None


def _is_python2(program: str) -> bool:
    try:
        asked = subprocess.run(
            [program, "-s", "-E", "-c", "import pip, sys; sys.exit(sys.version_info[:2] != (2, 7))"],
            capture_output=True,
            timeout=30,
            check=False,
        )
    except OSError:
        return False
    return asked.returncode == 0  # pyenv's stand-in on the PATH may know of none


def _table(outcomes: Mapping[str, Outcome]) -> Iterable[str]:
    yield "| cases | of | run | passed strictly | informational | others |"
    yield "|---|---|---|---|---|---|"
    counts: dict[str, Counter[str]] = {category: Counter() for category in _TITLES}
    for number, outcome in outcomes.items():
        kind = "passed" if outcome.passed else "informational" if number in INFORMATIONAL else "others"
        counts[number.partition(".")[0]][kind] += 1
    for category, title in _TITLES.items():
        found = counts[category]
        ends = " | ".join(str(found[kind]) for kind in ("passed", "informational", "others"))
        yield f"| {category}.\\* | {title} | {found.total()} | {ends} |"


async def main() -> int:
    """Every case; 1 if one is not as it should be, whose report is then kept."""
    folder = Path(tempfile.mkdtemp(prefix="autobahn-"))
    async with echo_edge(EDGE) as port:
        outcomes = await run_cases(port, [f"{category}.*" for category in _TITLES], folder, within_s=_WHOLE_S)
    sys.stdout.write("\n".join(_table(outcomes)) + "\n")
    others = {
        number: outcome
        for number, outcome in outcomes.items()
        if not outcome.passed and INFORMATIONAL.get(number) != outcome.close_code
    }
    for number, outcome in others.items():
        sys.stdout.write(f"{number}: {outcome}\n")
    if others:
        sys.stdout.write(f"the report: {folder}/report/index.html\n")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
