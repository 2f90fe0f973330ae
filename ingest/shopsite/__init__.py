"""A small web shop to scrape: real HTML over real HTTP, on loopback, different every day.

It stands in for a site of the outside world, so that the project can show itself without a
network, and it misbehaves in the ways such sites do. Look at it with `python -m ingest.shopsite`.
The scraper for it is `ingest.sources.shop`, which knows nothing of what is in here but `serve`.
"""

from ingest.shopsite.server import serve

__all__ = ["serve"]
