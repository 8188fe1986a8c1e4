"""The wall clock of four real processes jumps, back and forward: nothing is lost, doubled, or stuck."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from fault_app import Readings, write_app
from penstock_process import ROOT, eventually
from penstock_services import ROLES, PenstockServices

HOUR_S = 3600


@pytest.mark.timeout(300)
def test_a_wall_clock_that_jumps_loses_and_doubles_nothing(need, tmp_path: Path):
    compiler = shutil.which("cc")
    need("cc", compiler is not None, "install a C compiler: it makes a library that sets the clock of a process")
    assert compiler is not None
    library, offset = tmp_path / "wall_clock.so", tmp_path / "offset"
    source = ROOT / "tests" / "wall_clock.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    offset.write_bytes(struct.pack("q", 0))
    env = {"LD_PRELOAD": str(library), "WALL_CLOCK_OFFSET": str(offset)}
    with PenstockServices(tmp_path / "data", write_app(tmp_path / "app"), env=env) as services:
        readings = Readings(services)
        assert readings.send(20).status == 200
        readings.arrived_once()
        for jump_s in (-HOUR_S, 24 * HOUR_S, 0):
            with offset.open("r+b") as file:  # in place: it is mapped
                file.write(struct.pack("q", jump_s))
            services.forget_token()  # the one of before is of another time
            eventually(lambda: services.call("GET", "/v1/apps").status == 200, 30)
            assert readings.send(20).status == 200
            readings.arrived_once()
            for role in ROLES:
                eventually(lambda role=role: services.of(role).ready()[0], 30)
        times = [row["_received_at"] for row in services.rows("raw.readings", select="_received_at")]
        assert len({at[:13] for at in times}) >= 3, "the clock did not jump"
