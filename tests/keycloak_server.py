"""A real Keycloak for tests: one process in development mode on a free loopback port, nothing kept.

It comes from Maven Central into a cache folder outside the repository (`PENSTOCK_TEST_CACHE`, else `penstock-tests`
below the user's cache folder). It needs Java 17 or later and, the first time, `mvn`. The realm is the one of
docs/guides/keycloak.md. As a program, `python tests/keycloak_server.py FOLDER` runs one until it is interrupted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from kafka_broker import free_ports

__all__ = ["ADMIN", "REALM_FILE", "VERSION", "KeycloakServer"]

VERSION = "26.7.3"
#: Name and password of the administrator that is made at the start.
ADMIN = ("admin", "admin-password")
REALM_FILE = Path(__file__).parent.parent / "docs" / "keycloak" / "plant.json"

_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_ARTIFACT = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:tar.gz"
_DOWNLOAD_S = 600.0
_START_S = 240.0  # a machine whose two cores run other tests as well
_STOP_S = 20.0


class KeycloakServer:
    """One Keycloak whose own data is in `folder`, with the realm of the documentation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        [self.port] = free_ports(1)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def issuer(self) -> str:
        """The issuer of the realm's tokens."""
        return f"{self.url}/realms/plant"

    @property
    def _output(self) -> Path:
        return self.folder / "keycloak.out"

    @staticmethod
    def missing() -> str | None:
        """What this machine lacks to run one, with the remedy; None if nothing."""
        if shutil.which("java") is None:
            return "install a Java runtime (openjdk-17-jre-headless)"
        if shutil.which("mvn") is None and not _installed().is_dir():
            return "install maven, which fetches Keycloak from Maven Central"
        return None

    def start(self) -> None:
        """Start and wait until the realm answers; RuntimeError with the end of its output if it does not."""
        home = self._home()
        environment = os.environ | {
            "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx512m",
            "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",  # it lives for minutes: the first compiler is enough
            "KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN[0],
            "KC_BOOTSTRAP_ADMIN_PASSWORD": ADMIN[1],
        }
        words = ["--db=dev-mem", "--import-realm", "--http-host=127.0.0.1", f"--http-port={self.port}"]
        with self._output.open("ab") as sink:
            self.process = subprocess.Popen(
                [str(home / "bin" / "kc.sh"), "start-dev", *words],
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"Keycloak did not start:\n{self._output.read_text(errors='replace')[-3000:]}")
            time.sleep(0.2)

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """It takes connections and answers nothing, until the end of the block."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it, with the Java process that its script has started."""
        if self.process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            try:
                self.process.wait(_STOP_S)
                break
            except subprocess.TimeoutExpired:
                continue
        self.process = None

    def _home(self) -> Path:
        """A home of its own: the programs are those of the cache, the data is here."""
        installed, home = _install(), self.folder / "home"
        (home / "data" / "import").mkdir(parents=True)
        shutil.copytree(installed / "bin", home / "bin")
        for name in ("lib", "conf", "providers", "themes"):
            (home / name).symlink_to(installed / name)
        shutil.copy(REALM_FILE, home / "data" / "import")
        return home

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.issuer}/.well-known/openid-configuration", timeout=5) as reply:
                return bool(reply.status == 200)
        except (OSError, urllib.error.URLError):
            return False


def _installed() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("PENSTOCK_TEST_CACHE", cache / "penstock-tests")) / f"keycloak-{VERSION}"


def _install() -> Path:
    """The folder of Keycloak, fetched once: first into another, so that a half fetched one is never used."""
    folder = _installed()
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as half:
        command = ["mvn", "-q", "-B", _COPY, f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={half}"]
        subprocess.run(command, check=True, timeout=_DOWNLOAD_S)
        [archive] = Path(half).glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(half, filter="data")
        try:
            (Path(half) / f"keycloak-{VERSION}").rename(folder)
        except OSError:  # another test run was faster
            if not folder.is_dir():
                raise
    return folder


def main(folder: str) -> None:
    """Run one in `folder` until it is interrupted."""
    server = KeycloakServer(Path(folder).resolve())
    server.start()
    sys.stdout.write(f"{server.issuer}\n")
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        assert server.process is not None
        server.process.wait()
    finally:
        server.stop()


if __name__ == "__main__":
    main(sys.argv[1])
