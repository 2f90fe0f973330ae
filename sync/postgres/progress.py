"""How far a push is: over all its sources, in bytes of the parts that the rows come from."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lakehouse.errors import LakehouseError

if TYPE_CHECKING:
    from lakehouse.lake import Lake
    from sync.postgres.models import ViewWork
    from sync.postgres.source import Todo
    from sync.postgres.tables import Work
    from sync.transfer import Progress


class Teller:
    """Says how far all sources are.

    Args:
        lake: The lake.
        progress: Is told.
        since: The sources, with the load up to which each was mirrored.
    """

    def __init__(
        self, lake: "Lake", progress: "Callable[[Progress], None]", since: Mapping[str, int]
    ) -> None:
        self._lake, self._progress, self._since = lake, progress, since
        self._all: dict[
            str, list[int]
        ] = {}  # bytes of each table, by source; found when first something is copied
        self._done: dict[str, list[float]] = {}
        self._rows: dict[str, int] = {}
        self._source = ""

    def begin(self, source: str) -> None:
        """Another source begins, or the same one again."""
        if self._source and self._source != source:
            self._done[self._source] = [1.0] * len(self._all.get(self._source, ()))
        self._source, self._rows = source, {}

    def told(self, todo: "Todo", work: "Work | ViewWork", rows: int) -> None:
        """So many more rows of a table were copied."""
        from sync.transfer import Progress

        if not self._all:
            self._all = {source: self._sizes(source, seq) for source, seq in self._since.items()}
        self._rows[work.name] = self._rows.get(work.name, 0) + rows
        self._all[self._source] = [one.size_bytes for one in todo.needed]
        self._done[self._source] = [
            min(self._rows.get(one.name, 0) / max(one.rows, 1), 1.0) for one in todo.needed
        ]
        shares = [
            (size, share)
            for source, sizes in self._all.items()
            for size, share in zip(sizes, self._done.get(source) or [0.0] * len(sizes), strict=True)
        ]
        self._progress(
            Progress(
                files=sum(share >= 1 for _, share in shares), all_files=len(shares),
                size_bytes=int(sum(size * share for size, share in shares)), all_bytes=sum(size for size, _ in shares),
            )
        )  # fmt: skip

    def _sizes(self, source: str, since: int) -> list[int]:
        """About how many bytes each table of a source has that are still to come."""
        try:
            tables = self._lake.log(source).tables.values()
        except LakehouseError:  # told when its turn comes
            return []
        sizes = (sum(file.size_bytes for file in table.files_since(since + 1)) for table in tables)
        return [size for size in sizes if size]
