"""Scrapers, one a file; found by name, nothing is registered."""
