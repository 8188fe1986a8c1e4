"""SQL expressions: token pass, dialect, typed nodes, functions, compilation to Polars.

Shared by the processor (statements), the publish gateway (filters) and the data service (queries).
"""
