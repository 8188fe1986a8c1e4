"""docs/store.md is run as it is written: roles by psql as a superuser, then the reader's line."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from postgres_server import PostgresServer

from penstock.model.batch import Op
from penstock.ports.clock import SystemClock
from penstock.ports.store import Apply
from penstock.stores.open import open_store
from penstock.testing.store_contract import changes_frame, table_spec


def psql(url: str, statement: str) -> subprocess.CompletedProcess[str]:
    command = ["psql", url, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-At", "-c", statement]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


async def test_the_documented_roles_read_the_views_and_nothing_else(need, repository: Path) -> None:
    need("postgres", PostgresServer.programs() is not None, "apt-get install postgresql")
    need("psql", shutil.which("psql") is not None, "apt-get install postgresql-client")
    text = (repository / "docs" / "store.md").read_text()
    owner, reader = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    [line] = re.findall(r"```sh\npsql (\S+) -c '(.*?)'\n```", text)
    with PostgresServer() as server:
        for statement in owner.strip().splitlines():
            if "CREATE ROLE penstock " not in statement:  # the test's server has this role already
                done = psql(server.admin_url(), statement)
                assert done.returncode == 0, done.stderr
        store = open_store(server.url("penstock"), clock=SystemClock())
        for statement in reader.strip().splitlines():
            done = psql(server.admin_url("penstock"), statement)
            assert done.returncode == 0, done.stderr
        spec = table_spec("daily_arrivals", emit="early")  # made after the grants, as every later deploy
        await store.prepare([spec], 1)
        frame = changes_frame(spec, [("Goa", 7, Op.INSERT, True)])
        await store.apply([Apply(spec.name, 0, 1, None, 0, 1, frame, None)])
        url = line[0].replace("localhost:5432", f"127.0.0.1:{server.port}")
        found = psql(url, line[1])
        assert (found.returncode, found.stdout) == (0, "Goa|7|f\n"), found.stderr
        for forbidden in (
            "SELECT * FROM penstock_auth.signing_keys",
            "SELECT * FROM penstock_store.r_daily_arrivals",
            "DELETE FROM penstock.daily_arrivals",
        ):
            assert "permission denied" in psql(url, forbidden).stderr
        await store.close()
