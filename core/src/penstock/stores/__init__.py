"""Adapters of the store port (the SQL database behind the data service)."""
