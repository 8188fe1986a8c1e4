"""The domain model: values without I/O. Types, streams, positions, batches; nothing that opens or awaits."""
