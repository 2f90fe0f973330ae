"""Regular expressions and LIKE patterns: those that RE2, of DuckDB, and Java read alike, written for Java."""

import re

from lakehouse.models.spark.trouble import Refusal

_SPACE = r"\t\n\f\r "  # Java's \s has the vertical tab, too
_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": _SPACE}
_GROUPS = re.compile(r"\?:|\?P?<([A-Za-z][A-Za-z0-9]*)>")
_COUNT = re.compile(r"\{[0-9]{1,3}(,[0-9]{0,3})?\}")
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ")
_CONTROLS = frozenset("tnrf")


def java_pattern(pattern: str, flags: str = "") -> str:
    """A pattern of RE2 as Java's `Pattern` has to have it to find the same.

    Args:
        pattern: The pattern.
        flags: Flags of DuckDB: `i`, `c`, `s`; `g` is the caller's.

    Raises:
        Refusal: It has something that the two read in another way.
    """
    if set(flags) - set("ics"):
        raise Refusal(f"the flags {flags!r} of a regular expression")
    if "i" in flags and not pattern.isascii():
        raise Refusal(f"{pattern!r} as a regular expression in any case: letters beyond ASCII")
    out, at = [], 0
    while at < len(pattern):
        piece, at = _piece(pattern, at)
        out.append(piece)
    # d: only \n ends a line; u, with i: letters beyond ASCII as well, as in RE2.
    return f"(?d{'s' if 's' in flags else ''}{'iu' if 'i' in flags else ''})" + "".join(out)


def _piece(pattern: str, at: int) -> tuple[str, int]:
    char = pattern[at]
    if char == "\\":
        return _escaped(pattern, at)
    if char == "[":
        return _class(pattern, at)
    if char == "(":
        return _group(pattern, at)
    if char == "$":
        return r"\z", at + 1  # Java's $ also stands before a newline at the end
    if char == "{":
        count = _COUNT.match(pattern, at)
        return (count[0], count.end()) if count else (r"\{", at + 1)
    if char == "}":
        return r"\}", at + 1
    if char in "*+?" and pattern[at + 1 : at + 2] == "+":
        raise Refusal(f"{pattern[at : at + 2]!r} in a regular expression")
    return char, at + 1


def _escaped(pattern: str, at: int) -> tuple[str, int]:
    char = pattern[at + 1 : at + 2]
    if char.lower() in _CLASSES and char:
        return f"[{'^' if char.isupper() else ''}{_CLASSES[char.lower()]}]", at + 2
    if char in _PUNCTUATION or char in _CONTROLS:
        return f"\\{char}", at + 2
    raise Refusal(f"'\\{char}' in a regular expression")


def _group(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at + 1 : at + 2] != "?":
        return "(", at + 1
    known = _GROUPS.match(pattern, at + 1)
    if not known:
        raise Refusal(f"{pattern[at : at + 4]!r} in a regular expression")
    return ("(" if known[1] else "(?:"), known.end()


def _class(pattern: str, at: int) -> tuple[str, int]:
    """A class of characters; Java would read `[` and `&&` in it as operators."""
    out, at = ["["], at + 1
    if pattern[at : at + 1] == "^":
        out, at = ["[^"], at + 1
    first = True
    while first or pattern[at : at + 1] != "]":
        char = pattern[at : at + 1]
        if not char or pattern.startswith("[:", at):
            raise Refusal(f"{pattern!r} as a regular expression")
        if char == "\\":
            char = pattern[at + 1 : at + 2]
            if char in _CLASSES:
                out.append(_CLASSES[char])
            elif char and (char in _PUNCTUATION or char in _CONTROLS):
                out.append(f"\\{char}")
            else:
                raise Refusal(f"'\\{char}' in a regular expression")
            at += 1
        else:
            out.append(f"\\{char}" if char in "[]&^" else char)
        at, first = at + 1, False
    return "".join(out) + "]", at + 1


def java_replacement(text: str, *, shift: int = 0) -> str:
    r"""What is put in the place of a match: `\1` is `$1` in Java.

    Args:
        text: The replacement as DuckDB has it.
        shift: How many groups were put before those of the pattern.
    """
    out, at = [], 0
    while at < len(text):
        char, after = text[at], text[at + 1 : at + 2]
        if char == "\\" and after.isascii() and after.isdigit():
            # Java takes as many digits as there are groups: braces are for named groups only.
            if text[at + 2 : at + 3].isdigit():
                raise Refusal(f"{text!r} as a replacement: a digit follows a group")
            out.append(f"${int(after) + shift}")
            at += 2
        elif char == "\\":
            if after != "\\":
                raise Refusal(f"{text!r} as a replacement")
            out.append("\\\\")
            at += 2
        else:
            out.append(f"\\{char}" if char in "$\\" else char)
            at += 1
    return "".join(out)


def like(pattern: str, escape: str = "") -> tuple[str, str]:
    """A LIKE pattern and an escape character: Spark would take a backslash for one where none is given."""
    mark = next(char for char in "!#~^|" if char not in pattern.replace(escape, ""))
    out, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        if escape and char == escape:
            at += 1
            char = pattern[at : at + 1]
            if not char:
                raise Refusal(f"{pattern!r} as a pattern: it ends with its escape character")
            out.append(mark + char if char in "%_" else char)
        else:
            out.append(char)
        at += 1
    return "".join(out), mark
