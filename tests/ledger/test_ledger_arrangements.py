"""Nothing lost, nothing doubled: 100,000 events and 20 kills over all roles, in every arrangement.

Each run prints its seed and figures. `PENSTOCK_LEDGER_SEED` draws another plan.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ledger.arranged import NAMES, arranged, missing
from ledger.load import LoadPlan
from ledger.nemesis import Mixture
from ledger.run import APP, Run, run_ledger

SEED = int(os.environ.get("PENSTOCK_LEDGER_SEED", "20261121"))
EVENTS = 100_000
KILLS = 20
PAUSES = 4  # beyond the lease
CRASHES = 2  # of each server


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_and_nothing_doubled(name: str, tmp_path: Path, need):
    lacking = missing(name)
    need(lacking[0] if lacking else name, lacking is None, lacking[1] if lacking else "")
    with arranged(name, tmp_path, APP) as arrangement:
        verdict = run_ledger(arrangement, Run(SEED, LoadPlan(EVENTS), Mixture(KILLS, PAUSES, CRASHES)), tmp_path)
    assert verdict.word == "pass", verdict.summary()
