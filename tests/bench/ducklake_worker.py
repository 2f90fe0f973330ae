"""DuckLake in an environment of its own, as its extension is for another DuckDB than ours.

    python tests/bench/ducklake_worker.py FOLDER

Reads one JSON object a line from standard input and answers each with one: `build` commits the loads
and compacts, `open` attaches the lake at a version or at its newest, `ask` runs a query and says how
long it took, `answer` writes what the last query gave as an Arrow file.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from travel_changes import GONE, Changes, replay

MAINTENANCE = (
    "CALL ducklake_flush_inlined_data('peer')",
    "CALL ducklake_rewrite_data_files('peer')",
    "CALL ducklake_merge_adjacent_files('peer')",
    "CALL ducklake_cleanup_old_files('peer', cleanup_all => true)",
)


class Worker:
    """One DuckLake: its catalog in a DuckDB file, the quickest of those it has, its data beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.connection = duckdb.connect()
        self.connection.execute(f"LOAD '{_extension()}'")
        self.last: pa.Table | None = None
        self.attached = False

    def build(self, *, changes: str, budget: float) -> dict[str, Any]:
        """Commit the loads, then let DuckLake compact."""
        brought = Changes.open(Path(changes))
        self.open(version=None)
        empty = brought.table.schema.empty_table().select(brought.columns)
        self.connection.register("empty", empty)
        self.connection.execute("CREATE TABLE peer.rows AS FROM empty")
        done = replay(brought, budget, lambda rows: self._apply(rows, brought), self._version)
        compacting = time.perf_counter()
        troubles = []
        for call in MAINTENANCE:
            try:
                self.connection.execute(call).fetchall()
            except duckdb.Error as error:
                troubles.append(f"{call}: {error}")
        self.connection.execute("CHECKPOINT __ducklake_metadata_peer")
        return {
            "versions": {str(load): version for load, version in done.versions.items()},
            "single": done.single,
            "seconds": done.seconds,
            "compacting": time.perf_counter() - compacting,
            "troubles": troubles,
        }

    def open(self, *, version: int | None) -> dict[str, Any]:
        """Attach the lake, as it was at a version if one is given."""
        if self.attached:
            self.connection.execute("DETACH peer")
        at = f", SNAPSHOT_VERSION {version}" if version is not None else ""
        self.connection.execute(
            f"ATTACH 'ducklake:{self.folder}/catalog.ducklake' AS peer (DATA_PATH '{self.folder}/data'{at})"
        )
        self.attached = True
        return {}

    def ask(self, *, sql: str) -> dict[str, Any]:
        """Run a query to an Arrow table."""
        self.last = None
        started = time.perf_counter()
        self.last = self.connection.sql(sql).to_arrow_table()
        return {"seconds": time.perf_counter() - started}

    def answer(self, *, path: str) -> dict[str, Any]:
        """Write what the last query gave."""
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, self.last.schema) as writer:
            writer.write_table(self.last)
        return {}

    def _apply(self, rows: pa.Table, changes: Changes) -> None:
        self.connection.register("brought", rows)
        columns = ", ".join(f'"{name}"' for name in changes.columns)
        if changes.key is None:
            self.connection.execute(f"INSERT INTO peer.rows SELECT {columns} FROM brought")
            return
        self.connection.execute("BEGIN")
        self.connection.execute(
            f'DELETE FROM peer.rows WHERE "{changes.key}" IN (SELECT "{changes.key}" FROM brought)'
        )
        self.connection.execute(
            f'INSERT INTO peer.rows SELECT {columns} FROM brought WHERE NOT {GONE} ORDER BY "{changes.key}"'
        )
        self.connection.execute("COMMIT")

    def _version(self) -> int:
        return self.connection.execute("FROM ducklake_current_snapshot('peer')").fetchall()[0][0]


def _extension() -> str:
    """The extension that the wheel brings; its folder is named by the version of DuckDB."""
    import duckdb_extension_ducklake as package

    found = sorted(Path(next(iter(package.__path__))).rglob("*.duckdb_extension"))
    return str(found[-1])


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    worker = Worker(Path(sys.argv[1]))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # noqa: BLE001  # the other side says what went wrong, and goes on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
