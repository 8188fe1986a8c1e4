"""Outlets: systems of others that tables are delivered to. One file an adapter, `open` maps connectors to them."""
