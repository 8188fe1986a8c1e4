"""Nexmark: persons, auctions and bids of an online auction, and the queries q0 to q22 over them."""
