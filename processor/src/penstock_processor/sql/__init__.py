"""Stage 1, parse: text to checked sqlglot statements."""
