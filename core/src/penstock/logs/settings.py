"""Settings of the log: every queue, cache, retention and size limit by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, SecretStr

__all__ = ["KafkaLogSettings", "KafkaSecuritySettings", "LogSettings", "PostgresLogSettings"]

_MIB = 1024 * 1024


class PostgresLogSettings(BaseModel, frozen=True):
    """What only the log in PostgreSQL needs: waiting for the server, for locks, for other processes."""

    poll_ms: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="how often the database is asked what other processes have written; its notifications only "
        "bring that forward",
    )
    open_wait_s: float = Field(default=15.0, ge=0, description="wait at start for a database that does not answer")
    connect_timeout_s: int = Field(default=5, ge=2, description="wait for one connection")
    lock_timeout_s: float = Field(
        default=15.0, gt=0, description="wait for a lock; longer than `idle_in_transaction_timeout_s`"
    )
    idle_in_transaction_timeout_s: float = Field(
        default=5.0,
        gt=0,
        description="after this long the server ends the session of a process that stopped inside a transaction, so "
        "that its locks go",
    )
    statement_timeout_s: float = Field(default=60.0, gt=0, description="longest single statement")
    answer_timeout_s: float = Field(
        default=90.0, gt=0, description="wait for the server's answer to a write; then its outcome is unknown"
    )
    outcome_wait_s: float = Field(
        default=30.0, ge=0, description="how long the outcome of a commit is asked for after its connection broke"
    )
    attempts_max: int = Field(
        default=3, ge=1, description="attempts at a write that is known not to have taken place, before 503"
    )
    keepalive_idle_s: int = Field(default=10, ge=1, description="TCP keepalive after this much silence")
    keepalive_interval_s: int = Field(default=5, ge=1, description="between TCP keepalives")
    keepalive_count: int = Field(default=3, ge=1, description="lost TCP keepalives that end a connection")
    news_max_rows: int = Field(
        default=1000,
        ge=1,
        description="appends by other ingest gateways that one append is compared with; beyond it the gateway must "
        "learn them first",
    )


class KafkaSecuritySettings(BaseModel, frozen=True):
    """How clients of Kafka connect: encrypted or not, and as whom. What belongs together is checked when they do."""

    protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        default="plaintext",
        description="plaintext, ssl (TLS), sasl_plaintext (user and password, not encrypted) or sasl_ssl (both)",
    )
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="how the password is proved: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    username: str | None = Field(default=None, description="user of sasl_plaintext and sasl_ssl")
    password: SecretStr | None = Field(
        default=None, description="its password; better in a file that the variable with `_FILE` behind it names"
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of who may have signed brokers' certificates; default: whom the system trusts",
    )
    certificate_file: Path | None = Field(
        default=None, description="PEM file of the client's certificate, with what it was signed by behind it"
    )
    key_file: Path | None = Field(default=None, description="PEM file of the certificate's private key")
    key_password: SecretStr | None = Field(default=None, description="password of that file, if it is encrypted")
    check_hostname: bool = Field(
        default=True, description="whether a broker's certificate must name the host that was connected to"
    )

    @property
    def uses_sasl(self) -> bool:
        """Whether it needs a user and a password."""
        return self.protocol.startswith("sasl_")

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol.endswith("ssl")


class KafkaLogSettings(BaseModel, frozen=True):
    """What only the log in Kafka needs: waiting for brokers, sizes of records, how topics are made."""

    timeout_s: float = Field(
        default=10.0, gt=0, description="wait for the brokers' answer to one call; then 503, and the caller retries"
    )
    open_wait_s: float = Field(default=15.0, ge=0, description="wait at start for brokers that do not answer yet")
    transaction_timeout_s: float = Field(
        default=20.0,
        ge=1,
        description="after this long brokers abort the transaction of a process that stopped inside it; readers of "
        "its partitions wait for that",
    )
    commit_interval_s: float = Field(
        default=0.05, ge=0, description="cycles of one task are not committed closer together than this"
    )
    replication_factor: int = Field(
        default=-1, ge=-1, le=32767, description="copies of the topics that are made; -1: as the brokers say"
    )
    record_max_bytes: int = Field(
        default=900_000,
        ge=1_000,
        description="largest event; state is cut into pieces of it. Brokers refuse more than `message.max.bytes`",
    )
    read_max_records: int = Field(
        default=10_000, ge=1, description="records without a mark of Penstock that make one batch"
    )
    scan_max_records: int = Field(
        default=100_000, ge=1, description="records looked at from the end of a topic for the newest watermark"
    )
    rejected_max_events: int = Field(
        default=10_000, ge=1, description="newest rejected events that are listed; the topic holds the older ones"
    )
    queue_max_kib: int = Field(
        default=32 * 1024, ge=1024, description="records fetched ahead by one reader, and records waiting to be sent"
    )
    inlet_queue_max_kib: int = Field(
        default=16 * 1024, ge=1024, description="records of other producers fetched ahead of admission"
    )
    fetch_wait_ms: int = Field(
        default=20, ge=1, le=500, description="how long brokers hold a fetch back at the end of a topic"
    )
    security: KafkaSecuritySettings = Field(
        default=KafkaSecuritySettings(), description="encryption, user and certificates"
    )


class LogSettings(BaseModel, frozen=True):
    """Limits of a log adapter. The memory adapter heeds those on retention and size only."""

    retention_s: float = Field(
        default=7 * 86_400.0,
        ge=0,
        description="how long events are kept where a stream has no `retention` of its own; trimming never passes "
        "a durable consumer",
    )
    rejected_retention_s: float = Field(default=30 * 86_400.0, ge=0, description="how long rejected events are kept")
    ids_retention_s: float = Field(
        default=86_400.0, ge=0, description="how long hashes of dedupe keys are kept; at least the dedupe window"
    )
    ids_read_max_bytes: int = Field(
        default=256 * _MIB, ge=16, description="hashes handed to the dedupe index at start; the newest are kept"
    )
    max_size_bytes: int | None = Field(
        default=None,
        ge=1,
        description="size of the log above which appends are refused (503); nothing is deleted for it",
    )
    queue_max_requests: int = Field(default=10_000, ge=1, description="writes waiting for the disk before 429")
    queue_max_bytes: int = Field(default=256 * _MIB, ge=1, description="payload waiting for the disk before 429")
    group_max_requests: int = Field(default=512, ge=1, description="writes that share one commit")
    group_max_bytes: int = Field(default=32 * _MIB, ge=1, description="payload that shares one commit")
    tail_cache_bytes: int = Field(
        default=32 * _MIB,
        ge=0,
        description="recent batches kept in memory so that live readers do not touch the disk",
    )
    reader_threads: int = Field(
        default=2, ge=1, le=32, description="threads, and connections per file or database, that read"
    )
    foreign_poll_ms: int = Field(
        default=20, ge=1, le=1000, description="how often a file that another process writes is looked at"
    )
    busy_timeout_ms: int = Field(default=5000, ge=0, description="wait for SQLite's own short locks before giving up")
    writer_cache_kib: int = Field(default=16 * 1024, ge=64, description="page cache of a writing connection")
    checkpoint_pages: int = Field(default=2000, ge=1, description="pages in the write-ahead log before a checkpoint")
    wal_keep_bytes: int = Field(
        default=64 * _MIB, ge=0, description="size to which the write-ahead log file is cut back"
    )
    trim_interval_s: float = Field(
        default=60.0, gt=0, description="pause between two deletions of what retention lets go"
    )
    postgres: PostgresLogSettings = Field(
        default=PostgresLogSettings(), description="what only the log in PostgreSQL needs"
    )
    kafka: KafkaLogSettings = Field(default=KafkaLogSettings(), description="what only the log in Kafka needs")
    trim_chunk_batches: int = Field(default=200, ge=1, description="batches deleted in one transaction")
    unsafe_acknowledge_before_commit: bool = Field(
        default=False,
        description="for tests of the tests only: replies before the commit and then delays it, so that a kill "
        "loses acknowledged events",
    )
    unsafe_synchronous_off: bool = Field(
        default=False,
        description="for tests of the tests only: no fsync, so that a power cut loses acknowledged events",
    )
