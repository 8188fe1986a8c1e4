"""Shipped test parts: the manual clock and the contract suites that adapters of a port must pass."""
