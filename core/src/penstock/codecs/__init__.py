"""Encodings: events to and from bytes. Pure."""
