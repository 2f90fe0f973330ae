"""The state of one table at one moment as Parquet files: what engines other than DuckDB read."""
