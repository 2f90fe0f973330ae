"""Tables of the lake for other engines: Delta Lake and Iceberg metadata over the lake's own Parquet files."""
