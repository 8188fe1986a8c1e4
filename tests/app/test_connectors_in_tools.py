"""Tables of others in `penstock eval` and `penstock test`: ordinary inputs and outputs, and nothing goes anywhere."""

from __future__ import annotations

import io
import json
from pathlib import Path

from case_rig import try_steps
from hook_receiver import receiver

from penstock_processor.eval import run_eval


def app(url: str, folder: Path) -> str:
    return f"""CREATE TABLE lots (id BIGINT, price DOUBLE)
WITH ('connector' = 'file', 'path' = '{folder / "in"}', 'format' = 'json');
CREATE TABLE cheap WITH ('connector' = 'http', 'url' = '{url}', 'format' = 'json') AS
SELECT id, price FROM lots WHERE price < 3;
CREATE TABLE files WITH ('connector' = 'file', 'path' = '{folder / "out"}', 'format' = 'csv') AS SELECT id FROM lots;
"""


async def test_eval_reads_files_for_the_source_and_prints_what_would_be_delivered(tmp_path: Path):
    async with receiver() as endpoint:
        (tmp_path / "app.sql").write_text(app(endpoint.url, tmp_path))
        (tmp_path / "lots.ndjson").write_text('{"id":1,"price":1}\n{"id":2,"price":5}\n')
        out, err = io.BytesIO(), io.StringIO()
        inputs = [f"lots={tmp_path / 'lots.ndjson'}"]
        code = run_eval(
            tmp_path / "app.sql", inputs, ["cheap=-"], final=False, strict=True, stats=False, stdout=out, stderr=err
        )
        assert code == 0, err.getvalue()
        assert [json.loads(line) for line in out.getvalue().splitlines()] == [{"id": 1, "price": 1.0}]
        assert endpoint.requests == []
    assert not (tmp_path / "out").exists()


async def test_cases_send_to_the_source_and_expect_what_would_be_delivered(tmp_path: Path):
    steps = """
- send: lots
  rows:
    - {id: 1, price: 1.0}
    - {id: 2, price: 5.0}
- expect: cheap
  rows:
    - {id: 1, price: 1.0}
- expect: files
  rows:
    - {id: 1}
    - {id: 2}
"""
    async with receiver() as endpoint:
        tried = await try_steps(tmp_path, steps, sql=app(endpoint.url, tmp_path))
        assert (tried.wrong, tried.said) == ([], [])
        assert [result.failures for result in tried.results] == [()]
        assert endpoint.requests == []
    assert not (tmp_path / "out").exists()
