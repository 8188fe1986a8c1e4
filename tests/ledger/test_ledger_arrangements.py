"""Nothing lost, nothing doubled: 100,000 events and 20 kills over all roles, in every arrangement.

Each run prints its seed and figures. `PENSTOCK_LEDGER_SEED` draws another plan.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ledger.arrangements import Services
from ledger.load import LoadPlan
from ledger.nemesis import Arrangement, Mixture
from ledger.run import APP, Run, run_ledger
from postgres_server import PostgresServer

SEED = int(os.environ.get("PENSTOCK_LEDGER_SEED", "20261121"))
EVENTS = 100_000
KILLS = 20
PAUSES = 4  # beyond the lease
CRASHES = 2  # of each server


def run_through(arrangement: Arrangement, folder: Path) -> None:
    verdict = run_ledger(arrangement, Run(SEED, LoadPlan(EVENTS), Mixture(KILLS, PAUSES, CRASHES)), folder)
    assert verdict.word == "pass", verdict.summary()


@pytest.mark.timeout(400)
def test_four_processes_over_sqlite(tmp_path: Path):
    run_through(Services("sqlite", tmp_path, APP), tmp_path)


@pytest.mark.timeout(400)
def test_replicas_over_postgresql(tmp_path: Path, need):
    need("postgres", PostgresServer.programs() is not None, "apt-get install postgresql")
    with PostgresServer() as server:
        url = server.database("ledger")
        run_through(
            Services(
                "postgres",
                tmp_path,
                APP,
                log=url,
                store=url,
                replicas={"ingest": 2, "processor": 2},
                servers={"database": server},
            ),
            tmp_path,
        )
