"""Where things lie in a lake: names of keys, and which names and paths are allowed.

Keys are relative to the lake's root and use `/`. Nothing here touches a disk.
"""

import hashlib
import re

from lakehouse.errors import UnsafePathError, UserError

FORMAT = 1  # what this version of the package writes, and the highest that it reads
LAKE_FILE = "lakehouse.json"
QUARANTINE = "_quarantine"
DERIVED = "_derived"
TAGS = "_tags"
MODELS = "models"  # the source that models are loads of, and their schema in SQL
_LONGEST_ID = 120  # of a load id as a name; longer ones are cut

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,119}")
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,119}")
_LOG_FILE = re.compile(r"(\d{20})\.jsonl")
_LOG_PACK = re.compile(r"/_log/pack/(\d{20})-(\d{20})\.jsonl\.gz$")
# Names that a DuckDB catalog already uses for schemas of its own, or for the catalog itself.
_RESERVED_SOURCES = {"main", "temp", "system", "information_schema", "pg_catalog", "lakehouse"}


def check_source_name(name: str) -> str:
    """Return the name of a source, or raise UserError if it cannot be one."""
    if not _NAME.fullmatch(name) or name.lower() in _RESERVED_SOURCES:
        msg = f"{name!r} cannot be the name of a source"
        hint = "Use a letter, then letters, digits and underscores (at most 120); not " + ", ".join(
            sorted(_RESERVED_SOURCES)
        )
        raise UserError(msg, hint=hint + ".")
    return name


def check_table_name(name: str) -> str:
    """Return the name of a table, or raise UserError if it cannot be one."""
    if not _NAME.fullmatch(name):
        msg = f"{name!r} cannot be the name of a table"
        raise UserError(msg, hint="Use a letter, then letters, digits and underscores (at most 120).")
    return name


def check_tag_name(name: str) -> str:
    """Return the name of a tag, or raise UserError if it cannot be one."""
    if not _TAG.fullmatch(name):
        msg = f"{name!r} cannot be the name of a tag"
        raise UserError(
            msg, hint="Use a letter, then letters, digits, dots, underscores and hyphens (at most 120)."
        )
    return name


def tag_key(name: str) -> str:
    """Key of a tag."""
    return f"{TAGS}/{name}.json"


def log_prefix(source: str) -> str:
    """Key prefix of the log files of a source."""
    return f"{source}/_log/"


def log_key(source: str, seq: int) -> str:
    """Key of the log file whose first commit is `seq`: the name that writers compete for."""
    return f"{source}/_log/{seq:020d}.jsonl"


def log_file_seq(key: str) -> int | None:
    """First sequence number in a log file, by its name; None if the key is not a log file's."""
    match = _LOG_FILE.fullmatch(key.rsplit("/", 1)[-1])
    return int(match[1]) if match else None


def log_pack_prefix(source: str) -> str:
    """Key prefix of the log packs of a source."""
    return f"{source}/_log/pack/"


def log_pack_key(source: str, first: int, last: int) -> str:
    """Key of the log pack that holds the commits `first` to `last`."""
    return f"{source}/_log/pack/{first:020d}-{last:020d}.jsonl.gz"


def log_pack_span(key: str) -> tuple[int, int] | None:
    """First and last sequence number in a log pack, by its name; None if the key is not a log pack's."""
    match = _LOG_PACK.search(key)
    span = (int(match[1]), int(match[2])) if match else (0, 0)
    return span if 0 < span[0] <= span[1] else None


def part_key(source: str, table: str, first: int, last: int, name: str) -> str:
    """Key of a part that holds the rows of the loads `first` to `last` of a table."""
    span = f"{first:08d}" if first == last else f"{first:08d}-{last:08d}"
    return f"{source}/{table}/lake_load={span}/{name}.parquet"


def compactions(source: str) -> str:
    """Key prefix of the compactions of a source's tables, which are derived."""
    return f"{DERIVED}/{source}/versions/"


def quarantine_prefix(source: str, load_id: str) -> str:
    """Key prefix of a refused load."""
    return f"{QUARANTINE}/{source}/{safe_id(load_id)}/"


def discarded_key(source: str, load_id: str, table: str) -> str:
    """Key of the rows of one table that a contract discarded from a published load."""
    return f"{QUARANTINE}/{source}/{safe_id(load_id)}/discarded/{table}.jsonl"


def safe_id(load_id: str) -> str:
    """A load id as one component of a path; ids that differ never get the same one."""
    safe = re.sub(r"[^A-Za-z0-9._=+-]", "_", load_id).lstrip(".")[:_LONGEST_ID]
    if safe == load_id and safe:
        return safe
    return f"{safe}~{hashlib.sha256(load_id.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def check_relative(path: object, *, named_by: str, within: str) -> str:
    """Return a path that a commit names, if it stays inside `within`; else raise UnsafePathError.

    Args:
        path: The value as found in the commit.
        named_by: Key of the file that names it, for the message.
        within: Key prefix that the path has to begin with, such as `shop/`.
    """
    ok = (
        isinstance(path, str)
        and path.startswith(within)
        and not any(c in path for c in "\\\0:\n")
        and path.encode(errors="ignore").decode() == path  # half of a pair of surrogates is no character
        and all(piece not in ("", ".", "..") for piece in path.split("/"))
    )
    if not ok:
        msg = f"{named_by}: names the path {path!r}, which is not a plain path below {within!r}"
        raise UnsafePathError(
            msg,
            path=named_by,
            hint="No such file was opened. The log was altered by something else than lakehouse: "
            "restore this file from a mirror or backup.",
        )
    return str(path)
