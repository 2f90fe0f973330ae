"""Rows and values that a contract discards, kept as files until their load is published.

dlt drops them in three places and three processes; each writes here at once, so that a crash
between dropping and loading loses none. One folder per load package, one file per writer. Finding
what is dropped is done in `ingest.hooks`, publishing in `ingest.destination`.
"""

import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from ingest.defaults import set_dlt_defaults

set_dlt_defaults()

from dlt.common.json import json  # noqa: E402 - dlt reads the environment at import

FOLDER = "discarded"


class DiscardFile:
    """One writer's file of discarded rows. The file appears with the first row.

    Args:
        working_dir: dlt's working directory of the pipeline.
        load_id: The load package that the rows would have been part of.
        name: Unique among the writers of this package, and the same when a writer repeats its work.
        append: Go on with an existing file; else what an earlier attempt wrote is dropped.
    """

    def __init__(self, working_dir: Path, load_id: str, name: str, *, append: bool = False) -> None:
        self._path = working_dir / FOLDER / load_id / f"{name}.jsonl"
        if not append:
            self._path.unlink(missing_ok=True)

    def add(self, table: str, reason: str, rows: list[dict[str, Any]]) -> None:
        """Keep rows of a table, with the reason why they were discarded."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            for row in rows:
                file.write(json.dumpb({"table": table, "reason": reason, "row": row}) + b"\n")


def read(working_dir: Path, load_id: str) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """What was discarded from a load package: `(table, reason, rows)`, sorted by table and reason."""
    found = []
    for path in sorted((working_dir / FOLDER / load_id).glob("*.jsonl")):
        with path.open("rb") as file:
            found += [json.loadb(line) for line in file if line.endswith(b"\n")]
    found.sort(key=lambda entry: (entry["table"], entry["reason"]))
    for (table, reason), entries in groupby(found, key=lambda entry: (entry["table"], entry["reason"])):
        yield table, reason, [entry["row"] for entry in entries]


def packages(working_dir: Path) -> list[str]:
    """Load ids that something was discarded from and that are not published yet, oldest first."""
    folder = working_dir / FOLDER
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def remove(working_dir: Path, load_id: str) -> None:
    """Forget what was discarded from a load package: it is published."""
    shutil.rmtree(working_dir / FOLDER / load_id, ignore_errors=True)
