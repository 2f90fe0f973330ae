"""What reaches a terminal. Scraped values and names may hold control characters, which a terminal would obey.

Colours and the moves of a progress bar pass; all else is shown as an escape. A pipe or a file gets every byte as it is.
"""

import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

_ALLOWED = r"\x1b\[[0-9;]*m"  # colours
_MOVES = (
    r"|\x1b\[[0-9;]*[AKG]|\x1b\[\?25[lh]"  # of a progress bar: up, erase the line, hide and show the cursor
)
_CONTROL = "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\u202a-\u202e\u2066-\u2069]"  # not tab and newline; with bidi overrides


class Terminal:
    """A text stream to a terminal that lets no control character through that is not ours.

    Args:
        stream: The stream.
        moves: Whether a progress bar may be drawn on it.
    """

    def __init__(self, stream: TextIO, *, moves: bool) -> None:
        self._stream = stream
        kept = _ALLOWED + (_MOVES if moves else "") + (r"|\r" if moves else r"|\r\n")
        self._found = re.compile(f"({kept})|{_CONTROL}")

    def write(self, text: str) -> int:
        """Write text; control characters in it are shown, and do nothing."""
        self._stream.write(self._found.sub(_shown, text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _shown(found: re.Match[str]) -> str:
    return found[0] if found[1] else ascii(found[0])[1:-1]


def guard() -> None:
    """Let what is printed from now on pass through a `Terminal`, where it goes to one."""
    if sys.stdout is not None and sys.stdout.isatty():
        sys.stdout = Terminal(sys.stdout, moves=False)
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr = Terminal(sys.stderr, moves=True)
