"""Ports: small protocols whose docstrings are contracts. Adapters live in `logs` and `stores`."""
