"""Options of sources that are fetched from others: one model each, read as those of `outlets.options`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field

from penstock.outlets.options import Duration, Folder, Headers, OptionError, WebSocketUrl, read_model

__all__ = ["FEEDS", "FeedOptions", "FileFeedOptions", "WebSocketFeedOptions", "read_feed_options"]


class FeedOptions(BaseModel, frozen=True, extra="forbid"):
    """What every connector that is fetched from has."""

    connector: str


class FileFeedOptions(FeedOptions, frozen=True):
    """`'connector' = 'file'` or 'filesystem' without a writer: the files of a folder, those to come included."""

    path: Folder = Field(description="The folder whose files are read.")
    format: Literal["json", "csv", "parquet"] = Field(description="'json' (NDJSON), 'csv' or 'parquet'.")
    monitor_s: Duration = Field(
        default=1.0, gt=0, le=86_400, alias="source.monitor-interval",
        description="How often the folder is looked at for what is new.",
    )  # fmt: skip


class WebSocketFeedOptions(FeedOptions, frozen=True):
    """`'connector' = 'websocket'` without a writer: the messages of a server."""

    url: WebSocketUrl = Field(description="The server.")
    format: Literal["json"] = Field(description="'json'.")
    body: Literal["array", "lines", "object"] = Field(
        default="object", description="What a message is: 'object', one event; 'array': of events; 'lines': NDJSON."
    )
    subscribe: str | None = Field(
        default=None, max_length=10_000, description="A message that is sent after each connection is opened."
    )
    timeout_s: Duration = Field(
        default=30.0, gt=0, le=600, alias="request.timeout", description="Longest wait for the connection."
    )
    headers: Headers = Field(
        default_factory=dict, alias="header.*", description="'header.Name' = 'value': sent when it is opened."
    )


#: Connectors that sources may have, and their options.
FEEDS: Mapping[str, type[FeedOptions]] = {
    "file": FileFeedOptions,
    "filesystem": FileFeedOptions,
    "websocket": WebSocketFeedOptions,
}


def read_feed_options(connector: str, written: Mapping[str, str]) -> FeedOptions | list[OptionError]:
    """The options of a connector of `FEEDS`, or everything that is wrong with them, as `read_outlet_options`."""
    return read_model(FEEDS[connector], connector, written)
