"""Servers that several folders of tests use; each starts when the first test asks for it."""

from clouds import gcs_server, s3_server
from cluster import postgres_server, postgres_url

__all__ = ["gcs_server", "postgres_server", "postgres_url", "s3_server"]
