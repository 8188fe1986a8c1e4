"""Stage 6: the operators. Plain synchronous code over Polars frames: no I/O, no clock, no SQL."""
