"""A progress bar on stderr where a person waits; nothing where nobody looks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync.transfer import Progress


@contextmanager
def bar(doing: str, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told how many are done and how many there are in all.

    Args:
        doing: What is going on, such as `verifying`.
        what: What is counted, such as `files`.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn(what), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def transfer(doing: str) -> Iterator["Callable[[Progress], None]"]:
    """A bar of bytes, with the rate and the time left, that is told how much is done of how much.

    Args:
        doing: What is going on, such as `bucket`.
    """
    if not sys.stderr.isatty():
        yield lambda _progress: None
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[files]}"),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(doing, total=None, files="")
        yield lambda at: shown.update(
            task,
            completed=at.size_bytes,
            total=at.all_bytes,
            files=f"{at.files:,}/{at.all_files:,} files",
        )
