"""Names of the lake as identifiers of PostgreSQL, which have at most 63 bytes of UTF-8.

An identifier is the name as it is wherever that is possible: case, blanks and quotes are kept. Where it is not, the
choice depends on the name and on what was named before it, never on what comes later, and is kept.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

LONGEST = 63  # bytes of an identifier; PostgreSQL cuts what is longer
SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
_NO_NAME = "unnamed"  # as the lake calls it
_HASH_DIGITS = 8


def quote(name: str) -> str:
    """An identifier, quoted."""
    return '"' + sendable(name).replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text literal, quoted, that means the same whatever `standard_conforming_strings` is."""
    quoted = "'" + sendable(text).replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted


def sendable(text: str) -> str:
    """Text without what PostgreSQL has no text for: U+2400 for NUL, U+FFFD for half a surrogate pair."""
    return text.replace("\0", "\u2400").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def qualified(schema: str, name: str) -> str:
    """A relation or function in its schema, quoted."""
    return f"{quote(schema)}.{quote(name)}"


def identifier(name: str, suffix: str = "") -> str:
    """The identifier for a name: the name and the suffix, or what fits of it with a hash of all of it.

    Args:
        name: Any text.
        suffix: What has to stay whole at the end, a few bytes.
    """
    held = sendable(name)
    whole = (held or _NO_NAME) + suffix
    if held == name and len(whole.encode()) <= LONGEST:
        return whole
    if not name:
        return whole
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
    tail = f"_{digest}{suffix}"
    return held.encode()[: LONGEST - len(tail.encode())].decode("utf-8", "ignore") + tail


def schema_identifier(source: str, prefix: str = "") -> str:
    """The schema of a source. PostgreSQL keeps names that begin with `pg_`, and everybody uses `public`."""
    name = prefix + source
    return identifier(f"lake_{name}" if name.startswith("pg_") or name == "public" else name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Which identifiers names of the lake have in one namespace, such as the columns of a table.

    Attributes:
        identifiers: From each name of the lake to its identifier, in the order in which they came.
        reserved: Identifiers that no name may have: columns of our own, and of PostgreSQL.
        forms: Suffixes with which each name is used as well, such as `_history`; no two of them may meet.
    """

    identifiers: Mapping[str, str] = field(default_factory=dict)
    reserved: frozenset[str] = SYSTEM_COLUMNS
    forms: tuple[str, ...] = ("",)

    def __getitem__(self, name: str) -> str:
        """The identifier of a name; KeyError if it has none."""
        return self.identifiers[name]

    def form(self, name: str, suffix: str) -> str:
        """The identifier of one of the forms of a name."""
        return _form(self.identifiers[name], suffix)

    def extended(self, names: Iterable[str]) -> "Names":
        """With identifiers for names that have none yet. Those that are there stay what they are."""
        chosen = dict(self.identifiers)
        taken = {*self.reserved, *(_form(found, form) for found in chosen.values() for form in self.forms)}
        for name in names:
            if name not in chosen:
                chosen[name] = _free(name, self.forms, taken)
                taken.update(_form(chosen[name], form) for form in self.forms)
        return self if len(chosen) == len(self.identifiers) else replace(self, identifiers=chosen)

    def to_json(self) -> list[list[str]]:
        """Names and identifiers in order, to be stored; `from_json` reads them."""
        return [[name, chosen] for name, chosen in self.identifiers.items()]

    @classmethod
    def from_json(
        cls,
        stored: Sequence[Sequence[Any]],
        *,
        reserved: Iterable[str] = SYSTEM_COLUMNS,
        forms: Sequence[str] = ("",),
    ) -> "Names":
        """What `to_json` gave."""
        identifiers = {str(name): str(chosen) for name, chosen in stored}
        return cls(identifiers=identifiers, reserved=frozenset(reserved), forms=tuple(forms))


def _form(chosen: str, suffix: str) -> str:
    return identifier(chosen, suffix) if suffix else chosen


def _free(name: str, forms: Sequence[str], taken: set[str]) -> str:
    """The first identifier for a name of which no form is taken."""
    chosen, n = identifier(name), 1
    while any(_form(chosen, form) in taken for form in forms):
        n += 1
        chosen = identifier(name, f"_{n}")
    return chosen
