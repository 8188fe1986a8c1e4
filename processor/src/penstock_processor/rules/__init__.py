"""Rules as things: named filters over one stream that are added, changed and switched off while it flows."""
