"""A filter, a window and a pattern in Siddhi, the engine that Penstock's users come from, and in Penstock."""
