"""Adapters of the lookup port: databases and HTTP endpoints that are asked for rows by key."""
