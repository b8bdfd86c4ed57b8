"""The two SQL databases that services keep their state in: SQLite, embedded, and PostgreSQL, shared by replicas."""
