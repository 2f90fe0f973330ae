"""Quoting for SQL, and the few names that the catalog and its readers share."""

AS_OF = "lakehouse_as_of"  # the session variable that turns all views to another moment
CATALOG_VERSION = "5"  # of the catalog's own layout: another one is built anew


def quote(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text literal, quoted."""
    return "'" + text.replace("'", "''") + "'"
