"""The ledger test over `penstock up`, and what must make it fail: without these, a pass would mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledger.arrangements import OneProcess
from ledger.load import LoadPlan
from ledger.nemesis import Mixture
from ledger.run import APP, Run, run_ledger

SEED = 20261121
#: What is lost is waited for in vain: a short wait is enough.
BROKEN = Run(SEED, LoadPlan(4_000), Mixture(kills=4), drain_s=4)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mixture", [Mixture(kills=0), Mixture(kills=4)], ids=["quiet", "killed"])
def test_a_sound_system_passes(tmp_path: Path, mixture: Mixture):
    run = Run(SEED, LoadPlan(5_000), mixture)
    verdict = run_ledger(OneProcess(tmp_path, APP), run, tmp_path)
    assert verdict.word == "pass", verdict.summary()


@pytest.mark.timeout(240)
def test_acknowledging_before_the_commit_fails(tmp_path: Path):
    system = OneProcess(tmp_path, APP, {"PENSTOCK_LOG__UNSAFE_ACKNOWLEDGE_BEFORE_COMMIT": "true"})
    verdict = run_ledger(system, BROKEN, tmp_path)
    assert verdict.word == "fail"
    assert verdict.findings.counts["lost"] > 0


@pytest.mark.timeout(240)
def test_without_dedupe_it_fails(tmp_path: Path):
    app = tmp_path / "ledger.sql"
    app.write_text(APP.read_text().replace("'dedupe' = 'id'", "'dedupe' = 'none'"))
    verdict = run_ledger(OneProcess(tmp_path, app), BROKEN, tmp_path)
    assert verdict.word == "fail"
    assert verdict.findings.counts["duplicated_sink"] > 0


@pytest.mark.timeout(240)
def test_committing_positions_before_rows_fails(tmp_path: Path):
    system = OneProcess(tmp_path, APP, {"PENSTOCK_DATA_SERVICE__APPLIER__UNSAFE_POSITION_BEFORE_ROWS": "true"})
    verdict = run_ledger(system, BROKEN, tmp_path)
    assert verdict.word == "fail"
    assert verdict.findings.counts["lost"] > 0
    assert all(example.startswith("store.") for example in verdict.findings.examples["lost"])
