"""The `penstock` program: command line and wiring. The only package that knows all services."""
