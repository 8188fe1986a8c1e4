"""Core of Penstock: the model, the ports, their adapters, and what every role shares.

What belongs here: nouns of the domain, ports and adapters, and named technical concepts (codecs, http,
expressions, observe). What does not: anything that only one service needs. Core imports no service.
"""
