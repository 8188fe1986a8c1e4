"""What tests do to processes from outside: small disks, syncs that fail or are slow, networks that are cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from penstock_process import eventually

__all__ = ["Link", "small_disk", "strace_program", "syncs_that"]

_SYNCS = "fsync,fdatasync"


@contextlib.contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """A disk of its own in `folder`; needs root."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def strace_program(need: object) -> str:
    """Path of strace; `need` is the fixture."""
    found = shutil.which("strace")
    need("strace", found is not None, "install strace")  # type: ignore[operator]  # the fixture of tests/conftest.py
    assert found is not None
    return found


@contextlib.contextmanager
def syncs_that(strace: str, pid: int, what: str) -> Iterator[None]:
    """Every sync of the process, from now on, does `what`: `error=EIO` or `delay_enter=MICROSECONDS`."""
    tracer = subprocess.Popen(
        [strace, "-f", "-qq", "-p", str(pid), "-o", "/dev/null", "-e", f"trace={_SYNCS}",
         "-e", f"inject={_SYNCS}:{what}"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: _is_traced(pid), 20)
        yield
    finally:
        tracer.terminate()
        tracer.wait(20)


def _is_traced(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0" not in (task / "status").read_text() for task in tasks)


class Link:
    """A TCP link to a server on this machine. `cut`: nothing comes through and nobody is told; `heal`: it goes on
    where it was, as after a partition of the network.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._open = threading.Event()
        self._open.set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._open.set()
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def cut(self) -> None:
        """From now on everything is held back, new connections too."""
        self._open.clear()

    def heal(self) -> None:
        """What was held back is delivered, and the rest comes through again."""
        self._open.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closed:
                near, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        self._open.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self._target_port))
        except OSError:
            near.close()
            return
        self._sockets += [near, far]
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._open.wait()
                sink.sendall(data)
        self._open.wait()  # a close is news, too
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def free_bytes(folder: Path) -> int:
    """Room left on the disk of `folder`."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
