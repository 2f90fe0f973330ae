"""The model: what a file in `models/` says, as a value. See `docs/models.md` for how one is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lakehouse.core.definition import KINDS, Reference

__all__ = ["KINDS", "SOURCE", "Model", "Reference", "Test"]

SOURCE = "models"  # the source that models are loads of, and their schema in SQL


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """A test of a model, as its header has it.

    Attributes:
        kind: `unique`, `not_null`, `accepted_values`, `relationships`, `range`, `row_count`,
            `freshness`, or `sql` for a file of its own.
        arguments: By name; checked when the header is read.
        severity: `error` keeps the model from being published; `warn` only says so.
        line: Where it stands in the file, from 1.
    """

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    severity: str = "error"
    line: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a file in `models/` says.

    Attributes:
        name: Name of the file without its ending; the model's name in the schema `models`.
        path: The file, below the project's root, with `/`.
        kind: `view`, `table` or `incremental`.
        language: `sql` or `python`.
        sql: The SELECT alone: without header, without a semicolon. Of a Python model, the whole file.
        line: The line of the file on which `sql` begins, from 1.
        key: Columns that identify a row, if it says so.
        grain: What one row is, in words.
        description: What it is for, in words.
        columns: Descriptions of columns, by name.
        tests: The tests of its header.
        references: What it reads, in order of appearance; of a Python model, in order of parameters.
        parameters: Of a Python model: its parameters, in the order of `references`.
        digest: SHA-256 of the file.
    """

    name: str
    path: str
    kind: str = "view"
    language: str = "sql"
    sql: str = ""
    line: int = 1
    key: tuple[str, ...] = ()
    grain: str = ""
    description: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    tests: tuple[Test, ...] = ()
    references: tuple[Reference, ...] = ()
    parameters: tuple[str, ...] = ()
    digest: str = ""
