"""The header of a file in `models/`: found in its text, read as YAML, and checked word by word.

The same header stands in comments at the top of SQL, and in the docstring of Python.
"""

import functools
import re
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lakehouse.models.checks import EXAMPLES, SEVERITIES, names, read_test
from lakehouse.models.mapping import Said, read_mapping
from lakehouse.models.model import KINDS, Test
from lakehouse.models.place import Place, meant

OF_SQL = ("kind", "key", "grain", "description", "columns", "tests")
OF_PYTHON = (*OF_SQL, "inputs")
OF_TEST = ("description", "severity")

_MAPPING = re.compile(
    r"""\s*(?:\{|["']?[A-Za-z_]\w*["']?\s*:(\s|$))"""
)  # how the first line of a header begins
_RULER = re.compile(r"[-=*#_~\s]*")  # lines that only look nice
_PROSE = 'Prose with a colon goes into quotes: description: "…"'


class Pieces(NamedTuple):
    """A file in two pieces, each with the line of the file on which it begins, from 1."""

    header: str
    header_line: int
    sql: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a header says; empty where it does not.

    Attributes:
        kind: `view`, `table` or `incremental`.
        key: Columns that identify a row.
        grain: What one row is.
        description: What it is for.
        columns: Descriptions of columns, by name.
        tests: The tests, checked.
        inputs: Of a Python model: names of tables, by parameter.
        severity: Of a test in a file of its own.
        lines: The line of the file of each word that the header says.
    """

    kind: str = ""
    key: tuple[str, ...] = ()
    grain: str = ""
    description: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    tests: tuple[Test, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    severity: str = "error"
    lines: Mapping[str, int] = field(default_factory=dict)


def split_header(text: str, *, path: str) -> Pieces:
    """Cut the text of an SQL file into its header and what comes after it.

    The header is either the unbroken run of `--` lines at the top, or one `/* */` there. Comments after it
    belong to the SQL.

    Raises:
        UserError: The comment is never closed; or words of a header stand in a comment further down.
    """
    start = len(text) - len(text.lstrip())
    line = 1 + text.count("\n", 0, start)
    pieces = _block(text, start, line, path) if text.startswith("/*", start) else _dashes(text, start, line)
    blank = re.match(r"(?:[ \t\r]*\n)*", pieces.sql)
    skipped = blank.end() if blank else 0
    sql, at = pieces.sql[skipped:], pieces.line + pieces.sql.count("\n", 0, skipped)
    _check_strays(sql, Place(path=path, line=at))
    return Pieces(pieces.header, pieces.header_line, sql, at)


def _dashes(text: str, start: int, line: int) -> Pieces:
    rest = text[text.rfind("\n", 0, start) + 1 :] if start < len(text) else ""
    lines = rest.splitlines(keepends=True)
    count = next((i for i, row in enumerate(lines) if not row.lstrip().startswith("--")), len(lines))
    inside = [row.strip()[2:].removeprefix(" ") for row in lines[:count]]
    header = textwrap.dedent("\n".join("" if _RULER.fullmatch(row) else row for row in inside))
    return Pieces(header, line, "".join(lines[count:]), line + count)


def _block(text: str, start: int, line: int, path: str) -> Pieces:
    end = text.find("*/", start + 2)
    if end < 0:
        raise Place(path=path, line=line).error(
            "the comment is never closed", hint="Close it with */ before the SELECT."
        )
    first, _, others = text[start + 2 : end].partition("\n")
    header = f"{first.strip()}\n{textwrap.dedent(others)}".rstrip()
    return Pieces(header, line, text[end + 2 :], line + text.count("\n", start, end + 2))


def _check_strays(sql: str, place: Place) -> None:
    """Refuse words of the header in comments below it, which would say nothing."""
    for at, row in enumerate(sql.splitlines()):
        bare = row.strip()
        if bare and not bare.startswith("--"):
            return
        word = re.match(rf"--\s?({'|'.join(OF_SQL)})\s*:", bare)
        if word:
            raise place.error(
                f"`{word[1]}:` stands below the header, where it says nothing",
                line=place.line + at,
                hint="The header is the unbroken run of comment lines at the top: put it there, without blank lines between.",
            )


def read_header(text: str, place: Place, *, known: Collection[str] = OF_SQL) -> Header:
    """Read a header.

    Args:
        text: The header without comment signs.
        place: Where it begins.
        known: The words that it may say.

    Raises:
        UserError: It is no YAML, or says something that it cannot; with file and line.
    """
    rows = text.splitlines()
    if not _MAPPING.match(next((row for row in rows if row.strip()), "")):
        return Header(description=_prose(rows, place, known))
    said = read_mapping(text, place)
    for word, about in said.items():
        if word not in known:
            hint = meant(word, known) or f"It may say: {', '.join(known)}. {_PROSE}"
            raise about.place.error(f"the header has no `{word}`", hint=hint)
    read = {word: _READ[word](word, about) for word, about in said.items() if about.value is not None}
    return Header(**read, lines={word: about.place.line for word, about in said.items()})


def _prose(rows: Sequence[str], place: Place, known: Collection[str]) -> str:
    """A comment that is no mapping, as paragraphs; with words of a header in it, it is a mistake."""
    for at, row in enumerate(rows):
        word = re.match(rf"\s*({'|'.join(known)})\s*:(\s|$)", row)
        if word:
            raise place.error(
                f"`{word[1]}:` stands in a comment that begins as prose",
                line=place.line + at,
                hint="Begin the header with its words, and write the prose as `description: …`.",
            )
    paragraphs = re.split(r"\n\s*\n", "\n".join(row.strip() for row in rows).strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _text(word: str, said: Said) -> str:
    if not isinstance(said.value, str):
        raise said.place.error(f"`{word}` is {said.value!r}, which is no text", hint="Put it into quotes.")
    return " ".join(said.value.split()) if "\n\n" not in said.value else said.value.strip()


def _one_of(choices: Collection[str], word: str, said: Said) -> str:
    if said.value not in choices:
        near = meant(str(said.value), choices)
        raise said.place.error(
            f"`{word}` is {said.value!r}", hint=f"{near}It is one of: {', '.join(choices)}."
        )
    return str(said.value)


def _key(word: str, said: Said) -> tuple[str, ...]:
    found = names(said.value)
    if found is None:
        raise said.place.error(
            f"`{word}` is {said.value!r}, which is no list of columns, each once", hint="Write: key: [a, b]"
        )
    return tuple(found)


def _texts(example: str, word: str, said: Said) -> dict[str, str]:
    if not isinstance(said.value, Mapping):
        raise said.place.error(f"`{word}` is {said.value!r}, which is no mapping", hint=f"Write: {example}")
    for name, text in said.value.items():
        if not isinstance(text, str | None):
            raise said.place.error(
                f"`{word}`: {name!r} is {text!r}, which is no text", hint="Put it into quotes."
            )
    return {str(name): " ".join((text or "").split()) for name, text in said.value.items()}


def _tests(word: str, said: Said) -> tuple[Test, ...]:
    if not isinstance(said.value, list):
        raise said.place.error(
            f"`{word}` is no list", hint=f"One a line, each with a dash: - {EXAMPLES['not_null']}"
        )
    places = (Place(path=said.place.path, line=line) for line in said.lines)
    return tuple(read_test(item, place) for item, place in zip(said.value, places, strict=True))


_READ: dict[str, Callable[[str, Said], Any]] = {
    "kind": functools.partial(_one_of, KINDS),
    "key": _key,
    "grain": _text,
    "description": _text,
    "columns": functools.partial(_texts, "columns: {price: in euro}"),
    "tests": _tests,
    "inputs": functools.partial(_texts, "inputs: {products: shop.products}"),
    "severity": functools.partial(_one_of, SEVERITIES),
}
