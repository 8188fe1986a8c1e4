"""Settings and limits of the processor."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from penstock_processor.rules.settings import RulesSettings

__all__ = ["DeliverySettings", "LookupSettings", "ProcessorSettings", "SnapshotSettings"]


class SnapshotSettings(BaseModel, frozen=True):
    """When an operator's deltas are replaced by a snapshot of its whole state: whichever is reached first."""

    deltas: int = Field(default=2000, ge=1, description="Deltas of one operator since its last snapshot.")
    min_bytes: int = Field(
        default=1024 * 1024, ge=1, description="Bytes of deltas below which size never asks for one."
    )
    growth: float = Field(default=2.0, gt=0, description="Bytes of deltas, as a multiple of the last snapshot's.")


class DeliverySettings(BaseModel, frozen=True):
    """Limits of bringing rows to systems of others."""

    read_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, description="Bytes of stored batches that a delivery reads at once."
    )
    retry_min_s: float = Field(default=0.5, gt=0, description="First wait before rows are delivered again.")
    retry_max_s: float = Field(default=60.0, gt=0, description="Longest wait before rows are delivered again.")
    stop_grace_s: float = Field(
        default=3.0, ge=0, description="How long a delivery under way may take to end when the process stops."
    )


class LookupSettings(BaseModel, frozen=True):
    """Limits of looking rows up in systems of others."""

    batch_keys: int = Field(default=1000, ge=1, le=10_000, description="Keys that a place is asked for at once.")
    rows_max: int = Field(default=100_000, ge=1, description="Rows of one reply of a database.")
    requests_max: int = Field(default=8, ge=1, le=1000, description="HTTP requests to one endpoint at once.")
    reply_max_bytes: int = Field(default=1024 * 1024, ge=1024, description="Bytes of one HTTP reply.")
    retry_min_s: float = Field(default=0.1, gt=0, description="First wait before a lookup is tried again.")
    retry_max_s: float = Field(default=5.0, gt=0, description="Longest wait before a lookup is tried again.")
    stop_grace_s: float = Field(
        default=3.0, ge=0, description="How long a lookup under way may take to end when its app stops."
    )


class ProcessorSettings(BaseModel, frozen=True):
    """Limits of apps and their cycles. A cycle takes what is there, up to these bounds: it grows under load."""

    cycle_bytes: int = Field(
        default=4 * 1024 * 1024, ge=1024, description="Bytes of stored batches that a cycle reads of one partition."
    )
    cycle_batches: int = Field(default=4000, ge=1, description="Batches that a cycle reads of one partition.")
    cycle_rows: int = Field(
        default=100_000, ge=1, description="Events that a cycle takes of one partition; a batch is never divided."
    )
    small_cycle_rows: int = Field(
        default=5_000, ge=0, description="A cycle of fewer events is small: its cost is mostly that of any cycle."
    )
    small_cycle_share: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="Share of the time that small cycles may take while events keep coming; between them the app "
        "rests, so that what arrives meanwhile shares a cycle. An event that comes alone is never held up.",
    )
    rest_max_s: float = Field(default=0.005, ge=0, description="Longest rest after a small cycle.")
    output_rows: int = Field(
        default=50_000, ge=1, description="Rows of one written batch; a larger output is divided."
    )
    repartition_bytes: int = Field(
        default=256 * 1024, ge=1024, description="Bytes of rows that one entry of a repartition stream holds."
    )
    raw_max_bytes: int = Field(
        default=64 * 1024, ge=1024, description="Bytes of a rejected event's text that are kept."
    )
    detail_max_chars: int = Field(default=1000, ge=100, description="Characters kept of why an event was rejected.")
    idle_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds of silence after which one of several partitions no longer holds back the watermark, "
        "unless the app says otherwise.",
    )
    wait_s: float = Field(default=5.0, gt=0, description="Longest wait for news of the log before looking again.")
    retry_min_s: float = Field(default=0.5, gt=0, description="First wait before an app that failed is tried again.")
    retry_max_s: float = Field(
        default=30.0, gt=0, description="Longest wait before an app that failed is tried again."
    )
    beat_s: float = Field(
        default=0.5, gt=0, description="How often a replica says that it is alive, where several share the log."
    )
    member_ttl_s: float = Field(
        default=2.0, gt=0, description="Silence after which a replica's tasks are given to the others."
    )
    functions_folders: tuple[Path, ...] = Field(
        default=(),
        description="Folders with Python files of functions that apps declare; `penstock up` adds those of its apps.",
    )
    app_max_bytes: int = Field(default=1024 * 1024, ge=1024, description="Largest app text.")
    apps_max: int = Field(default=100, ge=1, description="Apps that one processor runs.")
    replay_max_events: int = Field(default=100, ge=1, description="Rejected events in one replay request.")
    replay_queue: int = Field(default=16, ge=1, description="Replay requests that wait for an app's next cycle.")
    rejected_page_max: int = Field(default=1000, ge=1, description="Rejected events in one reply.")
    secrets_folder: Path | None = Field(
        default=None, description="Folder of the files that `${NAME}` in options of connectors stands for."
    )
    delivery: DeliverySettings = Field(default=DeliverySettings(), description="Bringing rows to systems of others.")
    lookups: LookupSettings = Field(
        default=LookupSettings(), description="Looking rows up in systems of others, for lookup joins."
    )
    rules: RulesSettings = Field(default=RulesSettings(), description="Rules and requests about them.")
    snapshots: SnapshotSettings = Field(default=SnapshotSettings(), description="When state is compacted.")
