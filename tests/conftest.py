"""Servers that several folders of tests use, each started when the first test asks for it; and what all tests have."""

import os

import pytest
from clouds import gcs_server, s3_server
from cluster import postgres_server, postgres_url

__all__ = ["gcs_server", "own_cache", "postgres_server", "postgres_url", "s3_server"]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what is fetched of buckets in a folder of the tests' own; programs that they start see it, too."""
    os.environ["LAKEHOUSE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
