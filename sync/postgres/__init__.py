"""The mirror in PostgreSQL: a schema for each source, with the versions of all rows."""
