"""Rows and Arrow: typing without loss, digests of rows, Parquet parts. Knows nothing of logs or SQL."""
