"""One query of Nexmark in Apache Flink, for its time. Runs in Flink's own environment, which has no Penstock.

    python -m loadtests.nexmark.on_flink QUERY FOLDER...

Prints {"seconds"} for each folder of files, in this order, one line each: from the submission of the job to its end.
Sources are the NDJSON files, the sink takes rows and forgets them. One slot: parallelism is 1.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, TableEnvironment

from loadtests.nexmark.suite import queries

_SETTINGS = {
    "parallelism.default": "1",
    "table.local-time-zone": "UTC",
    "restart-strategy.type": "none",
    "rest.address": "127.0.0.1",
    "rest.bind-address": "127.0.0.1",
    "jobmanager.bind-host": "127.0.0.1",
    "jobmanager.rpc.address": "127.0.0.1",
    "taskmanager.bind-host": "127.0.0.1",
    "taskmanager.host": "127.0.0.1",
    # As the Nexmark suite of Flink has it: updates of one key within two seconds go on as one.
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "2 s",
    "table.exec.mini-batch.size": "50000",
    "table.optimizer.distinct-agg.split.enabled": "true",
    "pipeline.object-reuse": "true",
}


def main() -> None:
    """Run the query over each folder, each time as a job of its own in a new environment."""
    [query] = [query for query in queries() if query.name == sys.argv[1]]
    for folder in map(Path, sys.argv[2:]):
        configuration = Configuration()
        for name, value in _SETTINGS.items():
            configuration.set_string(name, value)
        made = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration)
        environment = TableEnvironment.create(made.build())
        sources = {
            name: f"'connector' = 'filesystem', 'format' = 'json', 'path' = '{(folder / name).as_uri()}.ndjson'"
            for name in query.sources
        }
        *before, insert = query.text(sources=sources, sink="'connector' = 'blackhole'").strip().split(";\n")
        for statement in before:
            if statement.startswith("SET "):
                key, _, value = statement.removeprefix("SET ").partition("=")
                environment.get_config().set(key.strip(" '"), value.strip(" '"))
            else:
                environment.execute_sql(statement)
        started = time.perf_counter()
        environment.execute_sql(insert.strip(";")).wait()
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main()
