"""Plots of a Locust run: requests a second, response times and users over time, as one SVG file."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt  # after the backend is chosen


def plot(history: Path, target: Path, title: str) -> None:
    """Draw `*_stats_history.csv` of Locust."""
    with history.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Name"] != "Aggregated"]
    start = min(int(row["Timestamp"]) for row in rows)
    names = sorted({row["Name"] for row in rows})
    figure, (rate, times) = plt.subplots(2, 1, sharex=True, figsize=(9, 6), layout="constrained")
    for name in names:
        own = [row for row in rows if row["Name"] == name]
        seconds = [int(row["Timestamp"]) - start for row in own]
        rate.plot(seconds, [float(row["Requests/s"]) for row in own], label=name)
        (line,) = times.plot(seconds, [_number(row["50%"]) for row in own], label=f"{name}, p50")
        times.plot(seconds, [_number(row["99%"]) for row in own], linestyle=":", color=line.get_color())
    rate.set(title=title, ylabel="a second")
    rate.legend(fontsize="small")
    times.set(xlabel="seconds", ylabel="milliseconds (dotted: p99)", yscale="log")
    for axes in (rate, times):
        axes.grid(visible=True, alpha=0.3)
    figure.savefig(target)


def _number(text: str) -> float:
    return float("nan") if text == "N/A" or float(text) <= 0 else float(text)


if __name__ == "__main__":
    plot(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
