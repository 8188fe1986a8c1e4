"""Webhooks: events of topics to HTTP addresses of others, signed, retried, with what failed kept."""
