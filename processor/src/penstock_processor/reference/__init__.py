"""What the language has, as tables: query forms, aggregates, codes of findings. docs/sql.md is made of them."""
