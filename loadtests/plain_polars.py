"""The baseline of `penstock eval`: the same filter and tumbling window written straight in Polars.

python plain_polars.py FILE    prints {"rows", "seconds"}; reading the file is part of it, starting Python is not
"""

from __future__ import annotations

import json
import sys
import time

import polars as pl


def main() -> None:
    """Read NDJSON, filter, group by key and hour, write NDJSON."""
    started = time.perf_counter()
    frame = pl.read_ndjson(
        sys.argv[1],
        schema={"id": pl.String, "ts": pl.String, "device": pl.String, "celsius": pl.Float64, "note": pl.String},
    )
    result = (
        frame.with_columns(pl.col("ts").str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="ms"))
        .filter(pl.col("celsius") >= 10)
        .group_by("device", pl.col("ts").dt.truncate("1h").alias("w_start"))
        .agg(pl.len().alias("n"), pl.col("celsius").mean().alias("mean"), pl.col("celsius").max().alias("most"))
        .sort("w_start", "device")
    )
    result.write_ndjson(sys.argv[2])
    print(json.dumps({"rows": frame.height, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
