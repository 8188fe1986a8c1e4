"""Durations in SQL texts: the reading is the core's, as options of connectors are read with it too."""

from __future__ import annotations

from penstock.model.durations import duration_ms

__all__ = ["duration_ms"]
