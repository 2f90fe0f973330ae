"""An independent reader of a lake: the log as plain JSON, the rows by pyarrow, the state by a dictionary.

It shares no code with `lakehouse` beyond the format's document, and asserts that what it meets is
sound: no gap, a whole chain, and every named file with its digest. One commit a log file only.
"""

import functools
import hashlib
import io
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

Row = dict[str, Any]
State = dict[str, list[Row]]


@dataclass
class History:
    """A source as its log has it.

    Attributes:
        load_ids: In the order of the log.
        states: The rows of every table after 0, 1, 2, … loads; rows in a fixed order, without nulls.
        pipelines: What each commit keeps for its pipeline.
        files: Keys of all parts and log files.
    """

    load_ids: list[str] = field(default_factory=list)
    states: list[State] = field(default_factory=lambda: [{}])
    pipelines: list[Any] = field(default_factory=list)
    files: set[str] = field(default_factory=set)

    @property
    def now(self) -> State:
        return self.states[-1]


def audit(root: Path, source: str = "shop") -> History:
    """Read and check everything that the log of a source says."""
    history = History()
    before = ""
    for seq, path in enumerate(log_files(root, source), 1):
        assert path.name == f"{seq:020d}.jsonl", f"a gap: {path.name} is number {seq}"
        content = path.read_bytes()
        assert content.endswith(b"\n"), f"{path} is torn"
        assert content.count(b"\n") == 1
        commit = json.loads(content)
        assert (commit["seq"], commit["source"], commit["prev"]) == (seq, source, before)
        before = hashlib.sha256(content[:-1]).hexdigest()
        state = dict(history.now)
        for table, change in commit.get("tables", {}).items():
            state[table] = _after(root, history, state.get(table, []), change, seq)
        history.load_ids.append(commit["load_id"])
        history.states.append(state)
        history.pipelines.append(commit.get("pipeline"))
        history.files.add(f"{source}/_log/{path.name}")
    return history


def log_files(root: Path, source: str = "shop") -> list[Path]:
    """The log files of a source, in order; hidden names are unfinished files."""
    folder = root / source / "_log"
    return sorted(p for p in folder.iterdir() if p.name[0] != ".") if folder.is_dir() else []


def files(root: Path) -> set[str]:
    """Keys of all files of a lake that are not hidden."""
    return {key for key in _walk(root) if not key.rsplit("/", 1)[-1].startswith(".")}


def unfinished(root: Path) -> set[str]:
    """Keys of the hidden files: what killed writers left."""
    return _walk(root) - files(root)


def tidy(rows: list[Row]) -> list[Row]:
    """Rows in one order, without nulls: equal for equal contents."""
    kept = [{k: v for k, v in row.items() if v is not None and not k.startswith("_lake_")} for row in rows]
    return sorted(kept, key=lambda row: json.dumps(row, sort_keys=True, default=str))


def copied(lake: Path, target: Path) -> Path:
    """A copy of a lake's folder, by hard links: committed files are never written to again."""
    shutil.copytree(lake, target, copy_function=os.link)
    return target


def _after(root: Path, history: History, rows: list[Row], change: dict[str, Any], seq: int) -> list[Row]:
    key = change["primary_key"] or change.get("merge_key", [])
    kept = [] if change.get("base") else rows
    added: list[Row] = []
    for part in change.get("parts", ()):
        data = (root / part["path"]).read_bytes()
        assert len(data) == part["size_bytes"], part
        assert hashlib.sha256(data).hexdigest() == part["sha256"], part
        history.files.add(part["path"])
        added += [row for row in _rows(data) if row["_lake_seq"] == seq]
    if key:
        touched = {tuple(row[k] for k in key) for row in added}
        kept = [row for row in kept if tuple(row.get(k) for k in key) not in touched]
    return tidy([*kept, *(row for row in added if not row.get("_lake_deleted"))])


@functools.cache
def _rows(data: bytes) -> list[Row]:
    rows: list[Row] = pq.ParquetFile(io.BytesIO(data)).read().to_pylist()
    return rows


def _walk(root: Path) -> set[str]:
    found = set()
    for parent, _, names in os.walk(root):
        found |= {os.path.relpath(os.path.join(parent, name), root) for name in names}
    return found
