"""Ingest gateway: the HTTP edge where events come in. Admission is pure (`admit`); the shell is `http`."""
