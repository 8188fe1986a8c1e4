"""Two replicas of the processor over one log: each delivers its partitions, and a lost one's go on once elsewhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from processor.test_replicas_in_memory import TWO, Cluster, two_replicas

COPIES = "CREATE TABLE copies WITH ('connector' = 'penstock')"
DELIVERED = """CREATE TABLE copies WITH ('connector' = 'file', 'path' = '{path}', 'format' = 'json',
  'sink.rolling-policy.rollover-interval' = '0 s')"""


class Delivering(Cluster):
    """Replicas whose deliveries are lost with them."""

    async def kill(self, name: str) -> None:
        for app in self.roles[name].replica.apps.values():
            for running in app.deliveries._running.values():
                running.task.cancel()
        await super().kill(name)

    def here(self) -> dict[str, list[str]]:
        """Replica -> deliveries that run there."""
        return {
            name: [one.task for one in app.deliveries.here]
            for name, role in self.roles.items()
            for app in role.replica.apps.values()
        }


@pytest.fixture
async def cluster() -> AsyncIterator[Delivering]:
    made = Delivering()
    yield made
    for name in list(made.roles):
        await made.stop(name)


def delivered(path: Path, partition: int) -> list[str]:
    files = sorted(path.glob(f"copies-*-{partition}-*.ndjson"))
    return [json.loads(line)["market"] for file in files for line in file.read_text().splitlines()]


async def test_a_lost_replicas_deliveries_go_on_at_the_other_and_double_nothing(cluster: Delivering, tmp_path: Path):
    path = tmp_path / "out"
    await two_replicas(cluster, TWO.replace(COPIES, DELIVERED.format(path=path)))
    await cluster.settled(1, 1)
    assert sorted(len(tasks) for tasks in cluster.here().values()) == [1, 1]
    await cluster.send(40)
    await cluster.until(lambda: len(delivered(path, 0)) + len(delivered(path, 1)) == 40)
    await cluster.kill("a")
    await cluster.send(40)
    await cluster.until(lambda: [len(tasks) for tasks in cluster.here().values()] == [2])
    await cluster.until(lambda: len(delivered(path, 0)) + len(delivered(path, 1)) >= 80)
    cluster.start("c")
    await cluster.settled(1, 1)
    await cluster.send(40)
    await cluster.until(lambda: len(delivered(path, 0)) + len(delivered(path, 1)) >= 120)
    of_log = [row["market"] for row in await cluster.rows("copies")]
    assert delivered(path, 0) + delivered(path, 1) == of_log
    assert len(of_log) == 120
