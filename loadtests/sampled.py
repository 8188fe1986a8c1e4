"""Runs a Python program and samples where its threads spend processor time; what librdkafka's threads use as well.

    python loadtests/sampled.py FOLDER PROGRAM [ARGUMENT ...]

`FOLDER/<process id>.json` holds CPU seconds since the start by part, written twice a second. A sample gives the
processor time that a thread used since the last sample to the part that its stack is in, so time without the GIL
counts for who asked for it and waiting counts for nobody. Costs about one per cent of a core.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

__all__ = ["SAMPLER"]

SAMPLER = Path(__file__).resolve()
_EVERY_S = 0.005
_WRITE_EVERY = 100  # samples

#: (text in a file's path, function or "", part); the first of them that matches any frame of a stack.
_PARTS = (
    ("<frozen importlib", "", "start: imports"),
    ("logs/kafka_reader.py", "", "read: range"),
    ("logs/kafka_tail.py", "", "read: follow"),
    ("logs/postgres_news.py", "", "read: follow"),
    ("logs/postgres_reader.py", "", "read: range"),
    ("logs/sqlite_reader.py", "", "read: range"),
    ("logs/kafka_appends.py", "_fill", "append: make records"),
    ("logs/kafka_tasks.py", "_portions", "commit: make records"),
    ("logs/kafka_producer.py", "_send", "write: hand over, wait for acknowledgements"),
    ("logs/kafka_producer.py", "", "write: transaction"),
    ("logs/postgres_writer.py", "", "write: transaction"),
    ("logs/postgres_statements.py", "", "write: transaction"),
    ("logs/sqlite_writer.py", "", "write: transaction"),
    ("runtime/decode", "", "decode"),
    ("runtime/inputs.py", "", "decode"),
    ("runtime/outputs.py", "", "outputs"),
    ("/operators/", "", "operators"),
    ("runtime/app_worker.py", "", "cycle, the rest"),
    ("penstock_data/apply.py", "", "apply: decode"),
    ("penstock/stores/", "", "apply: store"),
    ("topics/render.py", "", "fan-out: render"),
    ("topics/hub.py", "render", "fan-out: render"),
    ("publish/topics/", "", "fan-out: send"),
    ("penstock_ingest/admit.py", "", "admit"),
    ("penstock_ingest/", "", "ingest, the rest"),
    ("publish/door/", "", "door"),
)


def main() -> int:
    """The program's exit code. The parent only waits, so that the program is a child as under any wrapper."""
    folder, program, *arguments = sys.argv[1:]
    child = os.fork()
    if child:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    sys.argv = [program, *arguments]
    sys.path[0] = str(Path(program).parent)  # not this folder
    threading.Thread(target=_sample, args=(Path(folder) / f"{os.getpid()}.json",), daemon=True).start()
    runpy.run_path(program, run_name="__main__")
    return 0


def part_of(frame: FrameType | None) -> str:
    """The part that a stack is in, else `other: <file>:<function>` of its innermost frame of Penstock."""
    stack = []
    while frame is not None:
        stack.append((frame.f_code.co_filename, frame.f_code.co_name))
        frame = frame.f_back
    for place, function, part in _PARTS:
        for file, name in stack:
            if place in file and function in ("", name):
                return part
    for file, name in stack:
        if file.rpartition("/src/")[2].startswith("penstock"):
            return f"other: {Path(file).name}:{name}"
    return "event loop and libraries"


def _sample(file: Path) -> None:
    spent: Counter[str] = Counter()
    before: dict[int, float] = {}
    me = threading.get_native_id()
    for turn in _turns():
        native = {thread.ident: thread.native_id for thread in threading.enumerate()}
        native[threading.main_thread().ident] = os.getpid()  # Python 3.11 keeps the parent's over a fork
        for ident, frame in sys._current_frames().items():  # the documented way to see other threads' stacks
            thread = native.get(ident)
            if thread is not None and thread != me:
                with contextlib.suppress(OSError):  # it has ended
                    now = _thread_cpu_s(thread)
                    if now > before.get(thread, 0.0):
                        spent[part_of(frame)] += now - before.get(thread, 0.0)
                    before[thread] = now
        if turn % _WRITE_EVERY == 0:
            known = {one for one in native.values() if one is not None}
            _write(file, dict(spent) | _others(known))


def _turns() -> Iterator[int]:
    turn = 0
    while True:
        time.sleep(_EVERY_S)
        yield turn
        turn += 1


def _thread_cpu_s(native_id: int) -> float:
    """Linux: the clock of a thread is named by its id; with an id that is gone this raises OSError."""
    return time.clock_gettime((~native_id << 3) | 6)


def _others(known: set[int]) -> dict[str, float]:
    """CPU seconds of threads that are not Python's, by the name that their library gave them."""
    spent: Counter[str] = Counter()
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) not in known:
            with contextlib.suppress(OSError):
                name = (task / "comm").read_text().strip()
                name = "librdkafka" if name.startswith("rdk:") else f"threads: {name.rstrip('-0123456789')}"
                spent[name] += _thread_cpu_s(int(task.name))
    return dict(spent)


def _write(file: Path, spent: dict[str, float]) -> None:
    half = file.with_suffix(".half")
    half.write_text(json.dumps(spent))
    half.rename(file)


if __name__ == "__main__":
    sys.exit(main())
