"""Which adapter fetches which source: by its connector. Adapters are imported when they are asked for."""

from __future__ import annotations

from pathlib import Path

from penstock.feeds.options import FEEDS, FeedOptions, FileFeedOptions, WebSocketFeedOptions, read_feed_options
from penstock.model.stream import Relation, StreamSpec
from penstock.outlets.secrets import filled
from penstock.ports.clock import Clock
from penstock.ports.feed import Feed, FeedUnavailable
from penstock.ports.outlet import OutletUnavailable

__all__ = ["FEED_OPTIONS_OF_OURS", "feed_options", "has_feed", "make_feed"]

#: Options of such a source that are Penstock's own: it is a source like any other.
FEED_OPTIONS_OF_OURS = frozenset({
    "key", "partitions", "publish", "store", "scope", "retention", "dedupe", "unknown", "archive", "max-ahead",
    "late", "lateness", "emit", "scan.watermark.idle-timeout",
})  # fmt: skip


def has_feed(spec: StreamSpec) -> bool:
    """Whether events of the source are fetched from others."""
    return spec.relation is Relation.SOURCE and not spec.internal and spec.options.get("connector") in FEEDS


def feed_options(spec: StreamSpec, *, secrets: Path | None) -> FeedOptions:
    """The options of a source with `has_feed`, with its secrets. Blocks: reads their files. FeedUnavailable."""
    written = {name: text for name, text in spec.options.items() if name not in FEED_OPTIONS_OF_OURS}
    try:
        found = read_feed_options(spec.options["connector"], filled(written, secrets))
    except OutletUnavailable as error:
        raise FeedUnavailable(error.detail) from error
    if isinstance(found, list):
        raise FeedUnavailable(f"option '{found[0].name}' of '{spec.name}' with its secret: {found[0].remedy}")
    if isinstance(found, FileFeedOptions) and secrets is not None:
        folder = Path(found.path).resolve()
        if folder.is_relative_to(secrets.resolve()):  # their lines would be rejected events, for all to read
            raise FeedUnavailable(f"folder {folder} is one of secrets; name another in 'path'")
    return found


def make_feed(spec: StreamSpec, options: FeedOptions, *, clock: Clock, piece_max_bytes: int) -> Feed:
    """The feed of a source, not yet open. `piece_max_bytes`: about how much it gives at once."""
    match options:
        case FileFeedOptions():
            from penstock.feeds.file import FileFeed

            return FileFeed(spec, options, clock=clock, piece_max_bytes=piece_max_bytes)
        case WebSocketFeedOptions():
            from penstock.feeds.websocket import WebSocketFeed

            return WebSocketFeed(spec, options, piece_max_bytes=piece_max_bytes)
        case _:
            raise AssertionError(f"no adapter for {type(options).__name__}")
