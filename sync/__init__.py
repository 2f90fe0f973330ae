"""Mirrors of a lake: in a bucket, in Postgres."""
