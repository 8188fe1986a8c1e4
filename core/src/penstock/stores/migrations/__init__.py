"""Alembic revisions of the system tables. Relations' own tables come from their specs and need none."""
