"""Where something stands in a file of `models/`, and errors that say so."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from lakehouse.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A text inside a file.

    Attributes:
        path: The file, below the project's root, with `/`.
        line: The line of the file on which the text begins, from 1.
    """

    path: str
    line: int = 1

    def error(self, message: str, *, hint: str, line: int | None = None) -> UserError:
        """An error at a line of the file; at the first of the text by default."""
        return UserError(f"{self.path}:{line or self.line}: {message}", hint=hint.strip())

    def error_at(self, text: str, start: int, message: str, *, hint: str) -> UserError:
        """An error at a character of the text, with the line that it stands in.

        Args:
            text: The text whose place this is.
            start: Offset in characters.
            message: What is wrong.
            hint: What to do next.
        """
        begin = text.rfind("\n", 0, start) + 1
        shown = text[begin:].split("\n", 1)[0].rstrip()
        column = start - begin
        under = "".join("\t" if c == "\t" else " " for c in shown[:column]) + "^"
        line = self.line + text.count("\n", 0, start)
        return UserError(
            f"{self.path}:{line}:{column + 1}: {message}\n    {shown}\n    {under}".rstrip(), hint=hint
        )


def near(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """The names that may have been meant, at most three, likeliest first; case does not count.

    Args:
        name: What was written.
        known: What there is.
        cutoff: How alike they have to be, from 0 to 1.
    """
    folded = {other.lower(): other for other in known}
    return [folded[match] for match in difflib.get_close_matches(name.lower(), folded, n=3, cutoff=cutoff)]


def meant(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """`Did you mean …? `, or nothing where no name is near."""
    found = near(name, known, cutoff=cutoff)
    return f"Did you mean {' or '.join(f'`{n}`' for n in found)}? " if found else ""
