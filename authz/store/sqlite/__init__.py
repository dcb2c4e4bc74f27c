"""The embedded store on disk: SQLite in WAL mode, and the counters' journal beside it."""
