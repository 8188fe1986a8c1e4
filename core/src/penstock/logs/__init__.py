"""Adapters of the log port, one file each, chosen by URL in `open`."""
