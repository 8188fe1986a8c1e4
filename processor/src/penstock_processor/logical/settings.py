"""SET 'key' = 'value': settings of Flink that an app may carry. Some have no effect here."""

from __future__ import annotations

from collections.abc import Mapping

from penstock_processor.logical.durations import duration_ms
from penstock_processor.sql.findings import Findings, closest
from penstock_processor.sql.statements import OptionText, Script, Setting

__all__ = ["IDLE_TIMEOUT", "OF_A_CLUSTER", "PARALLELISM", "PARALLELISM_MAX", "SETTINGS", "STATE_TTL",
           "idle_timeout_ms", "parallelism", "read_settings", "state_ttl_ms"]  # fmt: skip

IDLE_TIMEOUT = "table.exec.source.idle-timeout"
STATE_TTL = "table.exec.state.ttl"
PARALLELISM = "parallelism.default"
#: A repartition stream has a partition for each pair of tasks.
PARALLELISM_MAX = 16
_UTC = ("utc", "etc/utc", "gmt", "z", "+00:00")
#: name -> meaning with its default, one line of the documentation.
SETTINGS: Mapping[str, str] = {
    PARALLELISM: f"Tasks that share the app, 1 (default) to {PARALLELISM_MAX}, fixed once it is deployed "
    "([scale out](guides/scale-out.md)).",
    STATE_TTL: "How long groups and rows that nothing touches are kept, such as '1 d'; queries whose rows change "
    "need it.",
    IDLE_TIMEOUT: "`scan.watermark.idle-timeout` of every source that has none of its own.",
    "table.local-time-zone": "'UTC'.",
    "execution.runtime-mode": "'streaming'.",
    "pipeline.name": "A name for Flink; it has no effect here.",
}
#: Settings of a Flink cluster: deployment and tuning, without a meaning for results.
OF_A_CLUSTER = (
    "execution.",
    "parallelism.",
    "pipeline.",
    "state.",
    "restart-strategy",
    "taskmanager.",
    "jobmanager.",
    "rest.",
    "sql-client.",
    "table.optimizer.",
    "table.exec.mini-batch.",
    "table.exec.resource.",
    "table.exec.async-",
    "python.",
    "s3.",
    "high-availability",
)


def read_settings(script: Script, findings: Findings) -> dict[str, str]:
    """All settings; the last one of a key counts, as in Flink. What cannot be followed is noted."""
    found: dict[str, str] = {}
    for statement in script.statements:
        if isinstance(statement, Setting):
            _check(statement.option, findings)
            found[statement.option.name] = statement.option.value
    return found


def idle_timeout_ms(settings: dict[str, str]) -> int | None:
    """When a silent partition stops holding time back, unless a table says it; None: not set, or 0."""
    return duration_ms(settings.get(IDLE_TIMEOUT, "")) or None


def state_ttl_ms(settings: dict[str, str]) -> int | None:
    """After what time without use state is forgotten; None: not set, or 0 (never, in Flink)."""
    return duration_ms(settings.get(STATE_TTL, "")) or None


def parallelism(settings: dict[str, str]) -> int:
    """Tasks that each stage of the app is divided into; 1 unless it is set to a good number."""
    value = settings.get(PARALLELISM, "1")
    return int(value) if _is_parallelism(value) else 1


def _is_parallelism(value: str) -> bool:
    return value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= PARALLELISM_MAX


def _check(option: OptionText, findings: Findings) -> None:
    key, value = option.name, option.value
    if key == PARALLELISM and not _is_parallelism(value):
        findings.add(
            option.value_span,
            "bad_option",
            message=f"'{value}' is no number of tasks.",
            remedy=f"Write a number from 1 to {PARALLELISM_MAX}.",
        )
    if key not in SETTINGS and not key.startswith(OF_A_CLUSTER):
        findings.add(
            option.span,
            "unknown_setting",
            message=f"There is no setting '{key}'.",
            remedy=closest(key, SETTINGS, otherwise=f"Settings are {', '.join(SETTINGS)}."),
        )
    elif key in (IDLE_TIMEOUT, STATE_TTL) and duration_ms(value) is None:
        findings.add(
            option.value_span,
            "bad_option",
            message=f"'{value}' is not a duration.",
            remedy="Write a number and a unit, such as '30 s'.",
        )
    elif key == "table.local-time-zone" and value.lower() not in _UTC:
        findings.add(
            option.value_span,
            "unsupported",
            message="The session's time zone is UTC in this version.",
            remedy="Write 'UTC', or remove the setting.",
        )
    elif key == "execution.runtime-mode" and value.lower() != "streaming":
        findings.add(
            option.value_span,
            "unsupported",
            message="Apps run in streaming mode.",
            remedy="Write 'streaming', or remove the setting; `penstock eval` runs an app over finite files.",
        )
