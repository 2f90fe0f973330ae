"""Servers that several folders of tests use; each starts when the first test asks for it."""

from clouds import gcs_server, s3_server

__all__ = ["gcs_server", "s3_server"]
