r"""From the bytes of one version to its rows, or to the reason why there are none.

`parse` decides which versions are failed loads and nothing else: it reads no file, types no column
and stores nothing. Its contract is plain `json.loads` (and `csv.DictReader(strict=True)`) of UTF-8
text, without NaN and Infinity; orjson only makes it fast, so wherever orjson would answer
differently, the standard library's answer is taken:

- integers of any size stay exact (orjson turns those beyond 64 bits into floats);
- `1e999` is JSON, and reads as infinity, as every JSON reader with doubles has it;
- half of a surrogate pair (`"\ud83d"`, an emoji cut in two) is JSON too, but no UTF-8 store can
  hold it: the version is good, and that half stays in the text as the six characters it came as.

Documents nested more than 1,024 levels deep are failed loads.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any, Literal, NoReturn, get_args

import orjson

from ingest.history.versions import HistoryError

Kind = Literal["json", "jsonl", "csv", "tsv"]
Rows = list[dict[str, Any]]

_KIND_OF_ENDING: dict[str, Kind] = {
    ".json": "json",
    ".geojson": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
}
ENDINGS = tuple(_KIND_OF_ENDING)

_BOM = b"\xef\xbb\xbf"
_MAX_DEPTH = 1024  # orjson's own limit; the standard library's depends on the version of Python
_MAX_REASON_CHARS = 300

# Maps every digit to "0" and every other byte to a blank, which makes "is there a run of 19
# digits" a substring search: ten times cheaper than the regular expression.
_DIGITS_AS_ZERO = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
_NINETEEN_DIGITS = b"0" * 19
_DIGIT_RUN = re.compile(rb"[0-9]+")
_FITS_64_BITS = range(-(2**63), 2**64)


class ParseFailure(ValueError):  # noqa: N818  (an outcome that is recorded, not a mistake of the caller)
    """A version that is a failed load: it leaves the table as it was.

    Attributes:
        reason: What is wrong with it, in one line of at most 300 characters.
    """

    def __init__(self, reason: str) -> None:
        # Names out of the document are quoted in reasons: keep these printable and short.
        line = " ".join(_well_formed(reason).split())
        self.reason = line if len(line) <= _MAX_REASON_CHARS else line[: _MAX_REASON_CHARS - 1] + "…"
        super().__init__(self.reason)


def kind_of(path: str) -> Kind:
    """Tell the kind of a file from the ending of its name.

    Args:
        path: A file name or path; of `new.json,old.json` the first counts.

    Raises:
        HistoryError: The ending is none of the known ones.
    """
    ending = PurePosixPath(path.split(",", 1)[0]).suffix.lower()
    if ending not in _KIND_OF_ENDING:
        message = f"{path!r}: the ending does not tell whether this is {', '.join(get_args(Kind))}"
        raise HistoryError(message, hint=f"Name the kind; known endings are {' '.join(ENDINGS)}.")
    return _KIND_OF_ENDING[ending]


def parse(raw: bytes, kind: Kind, rows: str | None = None) -> Rows:
    """Read the rows of one version.

    Args:
        raw: The bytes of the file, UTF-8 with or without a byte order mark.
        kind: `json` (one document), `jsonl` (one object a line; blank lines are skipped), `csv` or
            `tsv` (quoted as in CSV). Values of the last two are the exact text of the fields.
        rows: Dotted path to the list of rows inside a JSON document, such as `data.items`. A
            document that is the list itself needs none.

    Returns:
        One dict for each row, in the order of the file; an empty list is a good load of nothing.
        Of a key (or CSV column) that is repeated within one row, the last one counts.

    Raises:
        ParseFailure: The version is a failed load.
        HistoryError: `rows` was given for a kind that has no document to look into.
    """
    if rows and kind != "json":
        message = f"the rows of a {kind} file are its lines: there is no {rows!r} to look for"
        raise HistoryError(message, hint="Leave out --rows.")
    raw = raw.removeprefix(_BOM)
    if not raw or raw.isspace():
        raise ParseFailure("empty file")
    if kind == "json":
        return _rows_at(_document(raw), rows)
    if kind == "jsonl":
        return list(_json_lines(raw))
    return _delimited(raw, "\t" if kind == "tsv" else ",")


# --- JSON ---------------------------------------------------------------------------------------


def _document(raw: bytes) -> object:
    try:
        return _reader_for(raw)(raw)
    except ParseFailure as failure:
        stranger = _stranger(raw)
        if stranger:
            raise ParseFailure(f"{stranger} in the place of JSON") from failure
        raise


def _reader_for(raw: bytes) -> Callable[[bytes], object]:
    return _load_exactly if _has_wide_integer(raw) else _load


def _load(raw: bytes) -> object:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        # Either no JSON, or JSON that orjson refuses: the standard library has the last word.
        return _load_exactly(raw)


def _load_exactly(raw: bytes) -> object:
    text = _text(raw)
    try:
        return _storable(json.loads(text, parse_constant=_refuse_constant))
    except ParseFailure:
        raise
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        raise ParseFailure(f"invalid JSON: {error}{' (cut off?)' if cut else ''}") from error
    except ValueError as error:  # an integer of more digits than Python converts (4,300)
        raise ParseFailure(f"invalid JSON: {error}") from error
    except RecursionError as error:
        raise ParseFailure("nested too deeply") from error


def _refuse_constant(word: str) -> NoReturn:
    raise ParseFailure(f"invalid JSON: {word} is not a JSON value")


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}"
        raise ParseFailure(reason) from error


def _has_wide_integer(raw: bytes) -> bool:
    """Whether a number beyond 64 bits may stand in the text.

    Never misses one. Fractions, exponents and digits that touch a quotation mark are told apart;
    digits in the middle of a text may look like one, which costs time only.
    """
    shape = raw.translate(_DIGITS_AS_ZERO)
    at = shape.find(_NINETEEN_DIGITS)
    while at >= 0:
        run = _DIGIT_RUN.match(raw, at)
        end = run.end() if run else len(raw)
        negative = raw[at - 1 : at] == b"-"
        if _is_integer_token(raw, at - negative, end) and not _fits(raw[at:end], negative=negative):
            return True
        at = shape.find(_NINETEEN_DIGITS, end)
    return False


def _is_integer_token(raw: bytes, start: int, end: int) -> bool:
    before, after = raw[max(start - 1, 0) : start], raw[end : end + 1]
    return before in b"[,: \t\r\n" and after in b"],} \t\r\n"  # b"" (an edge) is in both


def _fits(digits: bytes, *, negative: bool) -> bool:
    if len(digits) > len(str(2**64)):
        return False
    return (-int(digits) if negative else int(digits)) in _FITS_64_BITS


def _storable(document: object) -> object:
    """Replace half surrogate pairs by their escapes, in place, and refuse what is nested too deeply."""
    document = _well_formed(document) if isinstance(document, str) else document
    waiting: list[tuple[object, int]] = [(document, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict):
            if not all(map(_is_well_formed, value)):
                entries = [(_well_formed(key), inner) for key, inner in value.items()]
                value.clear()
                value.update(entries)
            members: Iterator[tuple[Any, object]] = iter(list(value.items()))
        elif isinstance(value, list):
            members = iter(list(enumerate(value)))
        else:
            continue
        if depth > _MAX_DEPTH:
            raise ParseFailure(f"nested too deeply: more than {_MAX_DEPTH} levels")
        for place, inner in members:
            if isinstance(inner, str):
                value[place] = _well_formed(inner)
            else:
                waiting.append((inner, depth + 1))
    return document


def _is_well_formed(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _well_formed(text: str) -> str:
    return text if _is_well_formed(text) else text.encode("utf-8", "backslashreplace").decode()


def _json_lines(raw: bytes) -> Iterator[dict[str, Any]]:
    load = _reader_for(raw)
    lines = raw.split(b"\n")
    last = max(number for number, line in enumerate(lines, start=1) if line.strip())
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = load(line)
        except ParseFailure as failure:
            stranger = _stranger(raw)
            if stranger:
                raise ParseFailure(f"{stranger} in the place of JSON lines") from failure
            torn = " (the last line: torn?)" if number == last > 1 else ""
            raise ParseFailure(f"line {number}: {failure.reason}{torn}") from failure
        if not isinstance(value, dict):
            raise ParseFailure(f"line {number} is {_name(value)}, not an object")
        yield value


# --- Finding the rows in a document -------------------------------------------------------------


def _rows_at(document: object, path: str | None) -> Rows:
    at = document
    for key in path.split(".") if path else ():
        if not isinstance(at, dict):
            raise ParseFailure(f"no {key!r} in the document: {_name(at)} stands there, not an object")
        if key not in at:
            there = ", ".join(map(repr, list(at)[:5])) or "no key at all"
            raise ParseFailure(f"no {key!r} in the document; there is {there}")
        at = at[key]
    if not isinstance(at, list):
        where = f"{path!r}" if path else "the document"
        raise ParseFailure(f"{where} is {_name(at)}, not a list of objects{_hint(at, path)}")
    for number, row in enumerate(at, start=1):
        if type(row) is not dict:
            raise ParseFailure(f"not a list of objects: item {number} is {_name(row)}")
    return at


def _hint(document: object, path: str | None) -> str:
    """Name the lists of objects inside a document, shallow ones first."""
    found = [".".join(keys) for keys in _lists_of_objects(document)]
    full = [f"{path}.{name}" if path else name for name in found]
    if not full:
        return ""
    return f" (is --rows {full[0]} needed? lists of objects: {', '.join(full[:5])})"


def _lists_of_objects(document: object, max_depth: int = 3) -> Iterator[tuple[str, ...]]:
    level: list[tuple[tuple[str, ...], object]] = [((), document)]
    for _ in range(max_depth):
        deeper: list[tuple[tuple[str, ...], object]] = []
        for keys, value in level:
            # A key with a dot in it cannot be part of a dotted path.
            for key, inner in value.items() if isinstance(value, dict) else ():
                if "." in key:
                    continue
                if isinstance(inner, list) and inner and isinstance(inner[0], dict):
                    yield (*keys, key)
                deeper.append(((*keys, key), inner))
        level = deeper[:1000]  # dicts of dicts can be wide, and this is only a hint


def _name(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


# --- CSV ----------------------------------------------------------------------------------------


def _delimited(raw: bytes, delimiter: str) -> Rows:
    stranger = _stranger(raw)
    if stranger:  # such a page would often pass for a table with one column
        raise ParseFailure(f"{stranger} in the place of CSV")
    text = _text(raw)
    # A limit of the whole process (128 KB at first) that would call a long text broken. It is not
    # set back: another thread may be in the middle of a file.
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader)
        return list(_records(reader, header))
    except csv.Error as error:
        raise ParseFailure(f"invalid CSV: line {reader.line_num}: {error}") from error


def _records(reader: Any, header: list[str]) -> Iterator[dict[str, Any]]:
    width = len(header)
    for fields in reader:
        if not fields:  # a blank line
            continue
        if len(fields) != width:
            reason = f"ragged CSV: line {reader.line_num} has {len(fields)} fields, the header {width}"
            raise ParseFailure(reason)
        yield dict(zip(header, fields, strict=True))


# --- What else it may be ------------------------------------------------------------------------

# Without backtracking (`(?>`), or a page of nothing but comments would take for ever.
_HTML = re.compile(
    rb"(?>(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*)<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_TITLE = re.compile(rb"<title[^>]{0,200}>([^<]{1,200})", re.IGNORECASE)
_MAX_HEAD_BYTES = 16_384


def _stranger(raw: bytes) -> str | None:
    """Name what servers and tools leave in the place of data, where it can be told for sure."""
    head = raw[:_MAX_HEAD_BYTES].lstrip()
    if head.startswith(b"<") and _HTML.match(head):
        title = _TITLE.search(head)
        words = f" ({title[1].decode('utf-8', 'replace').strip()!r})" if title else ""
        return f"looks like an HTML page{words}"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a pointer to Git LFS (the data itself is not in this repository)"
    for mark, what in _MARKS.items():
        if raw.startswith(mark):
            return f"looks like {what}"
    return None


_MARKS = {
    b"<?xml": "XML",
    b"<<<<<<< ": "a merge conflict that was committed",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "a zip file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
