"""The public door: paths of services that run elsewhere, forwarded from the one address that clients know."""
