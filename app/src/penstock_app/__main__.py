"""Entry point of the `penstock` program."""

from __future__ import annotations

from penstock_app.cli import run_program

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    run_program()


if __name__ == "__main__":
    main()
