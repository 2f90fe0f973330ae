"""DuckDB over a lake: SQL for states and views, the catalog file, and read-only sessions."""
