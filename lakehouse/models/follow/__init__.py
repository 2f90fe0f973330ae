"""Following a SELECT from one of the tables that it reads to its result, over DuckDB's own syntax tree."""
