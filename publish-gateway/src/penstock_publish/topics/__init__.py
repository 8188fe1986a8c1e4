"""Topics: envelopes, rings, the hub that fans out, and one shell per transport."""
