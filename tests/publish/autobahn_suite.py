"""The real Autobahn test suite: installed once, let loose on the WebSocket edge and the tunnel, its report read.

The suite is written in Python 2, so it needs a Python 2.7: `python2.7` on the PATH, one of pyenv's, or the one that
PENSTOCK_PYTHON2 names. Its packages (`requirements/autobahn.txt`) go into the cache folder of the tests
(`PENSTOCK_TEST_CACHE`, else `penstock-tests` below the user's cache folder). As a program (`make autobahn`) this runs
every case, a quarter of an hour long, and prints the tables of docs/protocol.md.
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
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from publish.websocket_echo import ECHO_PATH, echo_edge, forwarded_echo

__all__ = ["EDGE", "INFORMATIONAL", "NOT_STRICT_FORWARDED", "Outcome", "missing", "run_cases", "unexpected"]

#: Settings of the edge: cases 9 send messages of 16 MiB.
EDGE = {"inbound_bytes_max": 16 * 1024 * 1024}
#: The suite does not say what is right here (RFC 6455 leaves it open); the code with which the edge must close.
INFORMATIONAL = {
    "7.1.6": 1000,  # 256 KiB, a message, a close and a ping at once: both are sent back before the close is answered
    "7.13.1": 1002,  # a close with 5000, which is no code that may be sent
    "7.13.2": 1002,  # a close with 65535: likewise
}
#: Where forwarded sockets, which are aiohttp's, conform without being strict: what came right before a violation may
#: be lost with the connection (3, 4, 5), and a text is looked at once it is whole (6).
NOT_STRICT_FORWARDED = frozenset(
    {"3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15"}
    | {"6.4.1", "6.4.2", "6.4.3", "6.4.4"}
)

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


async def run_cases(port: int, cases: Sequence[str], folder: Path, *, within_s: float) -> dict[str, Outcome]:
    """Outcomes by number of the case; `cases` as the suite wants them: `1.*`, `9.3.2`.

    The whole report, page by page, is then in `folder`. RuntimeError with the end of its output if the suite fails.
    """
    packages, python = await asyncio.to_thread(_install), _python2()
    assert python is not None, missing()
    spec = {
        "outdir": str(folder / "report"),
        "servers": [{"agent": _AGENT, "url": f"ws://127.0.0.1:{port}{ECHO_PATH}"}],
        "cases": list(cases),
        "exclude-cases": [],
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


def unexpected(outcomes: Mapping[str, Outcome], not_strict: Collection[str] = ()) -> dict[str, Outcome]:
    """What neither passed strictly nor is known: left open by the suite, or in `not_strict` and closed properly."""
    return {
        number: outcome
        for number, outcome in outcomes.items()
        if not outcome.passed
        and (outcome.behavior, outcome.close_code) != ("INFORMATIONAL", INFORMATIONAL.get(number))
        and not (number in not_strict and (outcome.behavior, outcome.closing) == ("NON-STRICT", "OK"))
    }


async def main() -> int:
    """Every case on the edge, those without compression and large messages forwarded; 1 if one is unexpected."""
    folder, wrong = Path(tempfile.mkdtemp(prefix="autobahn-")), False
    forwarded = [f"{category}.*" for category in _TITLES if category not in ("9", "12", "13")]
    for name, place, cases, not_strict in (
        ("edge", echo_edge, [f"{category}.*" for category in _TITLES], frozenset[str]()),
        ("forwarded", forwarded_echo, forwarded, NOT_STRICT_FORWARDED),
    ):
        (folder / name).mkdir()
        async with place(EDGE) as port:
            outcomes = await run_cases(port, cases, folder / name, within_s=_WHOLE_S)
        sys.stdout.write("\n".join((f"{name}:", *_table(outcomes), "")))
        for number, outcome in unexpected(outcomes, not_strict).items():
            wrong = True
            sys.stdout.write(f"{number}: {outcome}\n")
        sys.stdout.flush()
    if wrong:
        sys.stdout.write(f"the reports: {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


def _install() -> Path:
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
    question = "import pkgutil, sys; sys.exit(sys.version_info[:2] != (2, 7) or pkgutil.find_loader('pip') is None)"
    try:
        asked = subprocess.run([program, "-s", "-E", "-c", question], capture_output=True, timeout=30, check=False)
    except OSError:
        return False
    return asked.returncode == 0  # pyenv's stand-in on the PATH may know of none


def _table(outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    yield "| cases | of | run | passed strictly | not strictly | left open | failed |"
    yield "|---|---|---|---|---|---|---|"
    counts: dict[str, Counter[str]] = {}
    for number, outcome in outcomes.items():
        known = outcome.behavior if outcome.passed or outcome.closing in ("OK", "INFORMATIONAL") else "FAILED"
        counts.setdefault(number.partition(".")[0], Counter())[known] += 1
    for category in sorted(counts, key=int):
        found = counts[category]
        kinds = [found.pop(kind, 0) for kind in ("OK", "NON-STRICT", "INFORMATIONAL")]
        ends = " | ".join(map(str, (sum(kinds) + found.total(), *kinds, found.total())))
        yield f"| {category}.\\* | {_TITLES[category]} | {ends} |"


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
