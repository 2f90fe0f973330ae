import io

import pytest

from lakehouse.cli.terminal import Terminal

CLEAR = "\x1b[2J"
TITLE = "\x1b]0;owned\x07"


@pytest.mark.parametrize(
    "hostile", [CLEAR, TITLE, "\x9b2J", "\x07", "\u202eevil", "\x1b[5n", "\x1bc", "over\rwritten"]
)
def test_nothing_that_a_terminal_obeys_passes(hostile: str) -> None:
    sink = io.StringIO()
    out = Terminal(sink, moves=False)
    assert out.write(f"a {hostile} b\n") == len(hostile) + 5
    out.writelines([hostile])
    assert not set(sink.getvalue()) & set("\x1b\x9b\x07\u202e\r")
    assert sink.getvalue().startswith("a ")


def test_colours_lines_and_letters_pass() -> None:
    sink = io.StringIO()
    text = "\x1b[31mrot\x1b[0m\tTab\nZürich 日本 🙂\r\n"
    Terminal(sink, moves=False).write(text)
    assert sink.getvalue() == text


def test_a_progress_bar_may_move_and_clears_no_screen() -> None:
    sink = io.StringIO()
    bar = "\r\x1b[2K\x1b[1A\x1b[?25l"
    Terminal(sink, moves=True).write(bar + CLEAR)
    assert sink.getvalue() == bar + "\\x1b[2J"
