"""Stages 2 to 4: bind, rewrite, check. Statements become logical plans; sqlglot types stop in `bind`."""
