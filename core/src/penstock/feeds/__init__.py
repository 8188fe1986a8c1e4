"""Feeds: places of others that events of sources are fetched from. One file an adapter, `open` maps connectors."""
