"""DuckDB's errors as ours: what went wrong, and what to do next. No query is run here."""

import contextlib
import re
from collections.abc import Iterator, Mapping

import duckdb

from lakehouse.duck.fetching import behind
from lakehouse.errors import (
    DamagedPartError,
    IntegrityError,
    MissingPartError,
    NotFoundError,
    QueryError,
    UnsafePathError,
)

_KIND = re.compile(r"^[A-Z][A-Za-z ]* Error: ")
_WHERE = re.compile(r"\n\s*LINE \d+: .*", re.DOTALL)
# What DuckDB says of a file that is not the Parquet file it was; not of what a query computes.
_DAMAGE = re.compile(r"\bparquet|don't know what type|thrift|TProtocol|decompress", re.IGNORECASE)
_GONE = re.compile(r"No files found|No such file or directory")  # at planning; between that and reading
_NAMED = re.compile(r"with name \"?([^\"\s]+)")
_PART_ELSEWHERE = re.compile(r'Cannot access file "([^"]*/lake_load=[^"]*\.parquet)"')
_ASKED_WRONGLY = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ParserException,
    duckdb.ConversionException,
)
_CONSTANT = "A moment in _at() and _diff() is a constant, such as '2026-11-01' or now() - interval 1 day."
_DERIVED = "It is derived: delete the folder _derived of the lake, then run: lakehouse refresh"
_VERIFY = "Run `lakehouse verify` to see what is missing or damaged; restore it from a mirror or backup."


def plain(error: duckdb.Error) -> str:
    """What DuckDB says, without the kind of error that it begins with."""
    return _KIND.sub("", str(error).strip())


def told(error: duckdb.Error) -> str:
    """What DuckDB says on one line, without the place in the SQL."""
    return " ".join(_WHERE.sub("", plain(error)).split())


def unreadable(error: duckdb.Error, what: str) -> IntegrityError:
    """The error for a file that a log names and DuckDB cannot read."""
    met = behind(str(error))
    if isinstance(met, IntegrityError):
        return met
    text = _WHERE.sub("", plain(error))
    kind = MissingPartError if _GONE.search(text) else DamagedPartError
    if "/_derived/" in text:
        return kind(f"{what} cannot be read: {text}", hint=_DERIVED)
    if ".parquet" not in text:  # it does not say which file
        hint = f"{_VERIFY} If it finds nothing, a file in _derived is damaged. {_DERIVED}"
        return kind(f"{what} cannot be read: {text}", hint=hint)
    return kind(f"{what} cannot be read: {text}", hint=_VERIFY)


@contextlib.contextmanager
def explained(broken: Mapping[str, IntegrityError]) -> Iterator[None]:
    """Turn DuckDB's errors into ours.

    Args:
        broken: What is known to be wrong with sources; they are not in the catalog, or not all of them.
    """
    try:
        yield
    except duckdb.CatalogException as error:
        named = _NAMED.search(str(error))
        table = named[1].removesuffix("_at") if named else ""
        for source, trouble in broken.items():
            if source == table or re.search(rf"\b{re.escape(source)}\b", str(error)):
                raise trouble from None
            if trouble.message.startswith(f"{source}.{table} "):  # as `unreadable` says it
                raise trouble from None
        raise NotFoundError(plain(error), hint="See what there is: lakehouse tables") from None
    except duckdb.PermissionException as error:
        part = _PART_ELSEWHERE.search(str(error))
        if part is None:
            raise QueryError(plain(error)) from None
        raise UnsafePathError(
            f"{part[1]}: lies behind a link that leads out of the lake; it was not opened",
            path=part[1],
            hint="Put the real file in the place of the link.",
        ) from None
    except duckdb.Error as error:
        met = behind(str(error))
        if met is not None:
            raise met from None
        io = isinstance(error, duckdb.IOException)
        if io or (not isinstance(error, _ASKED_WRONGLY) and _DAMAGE.search(str(error))):
            raise unreadable(error, "a file that the log names") from None
        hint = _CONSTANT if "Table function cannot contain subqueries" in str(error) else ""
        raise QueryError(plain(error), hint=hint) from None
