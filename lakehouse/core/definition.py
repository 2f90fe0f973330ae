"""Definitions: what the log of the source `models` says about each model, and which tables lie behind it.

They are the `pipeline` of the newest commit that holds one. A catalog makes the views of models from them
alone: nobody who reads a lake needs the project that it was built from.
"""

import graphlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lakehouse.core import layout
from lakehouse.core.layout import MODELS
from lakehouse.errors import FormatError, UserError

KINDS = ("view", "table", "incremental")
FORMS = ("", "at", "history", "diff")
ABOUT = "lakehouse"  # the source whose tables are those about the lake

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A table that a SELECT reads, and where its name stands in it.

    Attributes:
        source: Name of the source; `models` for another model, `lakehouse` for a table about the lake.
        table: Name of the table, as the lake has it.
        form: What is read of it: `""` itself, `at` (`_at(…)`), `history`, `diff` (`_diff(…)`).
        start: Where its name begins in the SQL, in characters.
        end: Where its name ends: alias and arguments are not part of it.
        alias: Whether it is given another name there.
    """

    source: str
    table: str
    form: str = ""
    start: int = 0
    end: int = 0
    alias: bool = False

    @property
    def name(self) -> str:
        """`source.table`."""
        return f"{self.source}.{self.table}"

    @property
    def read(self) -> str:
        """The table or macro that is read, such as `products_history`."""
        return f"{self.table}_{self.form}" if self.form else self.table


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What a build read of one table: the position in its log, and the digest of the commit there."""

    seq: int
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What the log says about a model.

    Attributes:
        name: The model's name in the schema `models`.
        kind: `view`, `table` or `incremental`.
        language: `sql` or `python`.
        path: The file that it was built from, below the project's root.
        sql: The SELECT; of a Python model, the whole file.
        line: The line of the file on which `sql` begins, from 1.
        references: What it reads, in order of appearance; of a Python model, in order of parameters.
        parameters: Of a Python model: its parameters, in the order of `references`.
        key: Columns that identify a row.
        grain: What one row is, in words.
        description: What it is for, in words.
        about: Descriptions of columns, by name.
        columns: `(name, DuckDB type)` of each column, as it was built.
        tests: The tests, each with `kind`, `arguments` and `severity`.
        digest: SHA-256 of the file.
        fingerprint: What tells whether it is out of date.
        inputs: What was read of each table, by `source.table`.
        lineage: By column, the columns `source.table.column` that it comes from.
        built: The commit that last stored its rows; 0 for a view.
    """

    name: str
    kind: str = "view"
    language: str = "sql"
    path: str = ""
    sql: str = ""
    line: int = 1
    references: tuple[Reference, ...] = ()
    parameters: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    grain: str = ""
    description: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[tuple[str, str], ...] = ()
    tests: tuple[JSON, ...] = ()
    digest: str = ""
    fingerprint: str = ""
    inputs: Mapping[str, Input] = field(default_factory=dict)
    lineage: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    built: int = 0

    @property
    def is_view(self) -> bool:
        """Whether nothing of it is stored."""
        return self.kind == "view"

    @property
    def reads(self) -> tuple[str, ...]:
        """Names `source.table` of what it reads, each once, in order of appearance."""
        return tuple(dict.fromkeys(reference.name for reference in self.references))

    @property
    def upstream(self) -> tuple[str, ...]:
        """Names of the models that it reads, each once, in order of appearance."""
        return tuple(dict.fromkeys(r.table for r in self.references if r.source == MODELS))

    def to_json(self) -> JSON:
        """The definition as a commit records it: without its name, and without empty values."""
        record: JSON = {
            "kind": self.kind,
            "language": self.language,
            "path": self.path,
            "sql": self.sql,
            "line": self.line,
            "references": [[r.source, r.table, r.form, r.start, r.end, r.alias] for r in self.references],
            "parameters": list(self.parameters),
            "key": list(self.key),
            "grain": self.grain,
            "description": self.description,
            "about": dict(self.about),
            "columns": [list(column) for column in self.columns],
            "tests": [dict(test) for test in self.tests],
            "digest": self.digest,
            "fingerprint": self.fingerprint,
            "inputs": {name: {"seq": i.seq, "digest": i.digest} for name, i in self.inputs.items()},
            "lineage": {column: list(behind) for column, behind in self.lineage.items()},
            "built": self.built,
        }
        return {name: value for name, value in record.items() if value}


def read_definitions(pipeline: JSON | None) -> dict[str, Definition]:
    """The definitions in force, by name, in an order in which each comes after those that it reads.

    Args:
        pipeline: The newest `pipeline` in the log of `models`; None where there is none.

    Raises:
        FormatError: It says something that cannot be, or that a newer version wrote.
    """
    records = (pipeline or {}).get("models", {})
    if not isinstance(records, dict):
        raise _nonsense("the pipeline", f"has models that are no object: {records!r:.80}")
    found: dict[str, Definition] = {}
    folded: dict[str, str] = {}
    for name, record in records.items():
        try:
            found[name] = _definition(layout.check_table_name(name), record)
        except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
            reason = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            raise _nonsense(f"the definition of {name!r:.130}", f"cannot be read ({reason})") from error
        other = folded.setdefault(name.lower(), name)
        if other != name:
            raise _nonsense("the pipeline", f"has {other!r} and {name!r}, which differ only in case")
    return {name: found[name] for name in _in_order(found)}


def to_json(definitions: Iterable[Definition]) -> JSON:
    """The `pipeline` of a commit with which these definitions are in force."""
    return {"models": {definition.name: definition.to_json() for definition in definitions}}


def tables_behind(definitions: Mapping[str, Definition], name: str) -> tuple[str, ...]:
    """Names `source.table` of all that a model reads, with what its views read in their place.

    Tables that are materialised models are among them, as `models.<name>`; tables about the lake as
    `lakehouse.<name>`.
    """
    found: dict[str, None] = {}
    seen: set[str] = set()
    todo = [name]
    while todo:
        for reference in definitions[todo.pop()].references:
            model = definitions.get(reference.table) if reference.source == MODELS else None
            if model is None or not model.is_view:
                found[reference.name] = None
            elif model.name not in seen:
                seen.add(model.name)
                todo.append(model.name)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a commit did to definitions: names, in the order of the newer set.

    Attributes:
        made: Those that are new, or that say or read something else now.
        dropped: Those that are there no more.
    """

    made: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def changed(before: Mapping[str, Definition], after: Mapping[str, Definition]) -> Changes:
    """What is different in definitions; that other loads of the same tables were read is not."""
    return Changes(
        made=tuple(n for n, d in after.items() if n not in before or _said(before[n]) != _said(d)),
        dropped=tuple(name for name in before if name not in after),
    )


def _said(definition: Definition) -> JSON:
    """What a definition says, apart from what a build found."""
    found = ("inputs", "fingerprint", "columns", "lineage", "line", "built")
    return {name: value for name, value in definition.to_json().items() if name not in found}


def _definition(name: str, record: JSON) -> Definition:
    if record["kind"] not in KINDS:
        raise ValueError(f"kind is {record['kind']!r}; this lakehouse knows {', '.join(KINDS)}")
    if record["kind"] == "view" and _text(record, "language", "sql") != "sql":
        raise ValueError(f"it is a view in {record['language']!r}")
    sql = _text(record, "sql")
    references = tuple(_reference(reference) for reference in record.get("references", ()))
    if _text(record, "language", "sql") == "sql":
        _check_spans(references, sql)
    return Definition(
        name=name,
        kind=record["kind"],
        language=_text(record, "language", "sql"),
        path=_text(record, "path"),
        sql=sql,
        line=int(record.get("line", 1)),
        references=references,
        parameters=_texts(record.get("parameters", ())),
        key=_texts(record.get("key", ())),
        grain=_text(record, "grain"),
        description=_text(record, "description"),
        about={str(column): str(text) for column, text in record.get("about", {}).items()},
        columns=tuple((str(column), str(kind)) for column, kind in record.get("columns", ())),
        tests=tuple(_test(test) for test in record.get("tests", ())),
        digest=_text(record, "digest"),
        fingerprint=_text(record, "fingerprint"),
        inputs={
            str(table): Input(seq=int(read["seq"]), digest=str(read.get("digest", "")))
            for table, read in record.get("inputs", {}).items()
        },
        lineage={str(column): _texts(behind) for column, behind in record.get("lineage", {}).items()},
        built=int(record.get("built", 0)),
    )


def _reference(record: Any) -> Reference:
    source, table, form, start, end, alias = record
    if form not in FORMS:
        raise ValueError(f"it reads {table!r} in the form {form!r}")
    if source != ABOUT:
        layout.check_source_name(source)
    return Reference(
        source=source,
        table=layout.check_table_name(table),
        form=form,
        start=int(start),
        end=int(end),
        alias=bool(alias),
    )


def _check_spans(references: Iterable[Reference], sql: str) -> None:
    """Refuse names that do not lie in the SQL one after the other."""
    before = 0
    for reference in references:
        if not before <= reference.start < reference.end <= len(sql):
            raise ValueError(f"{reference.name} is said to stand at {reference.start} to {reference.end}")
        before = reference.end


def _test(record: JSON) -> JSON:
    """A test as the log has it; `kind` says what it is."""
    if not isinstance(record.get("arguments", {}), dict):
        raise TypeError(f"a test has the arguments {record['arguments']!r:.80}")
    return {"kind": _text(record, "kind")} | record if record["kind"] else record


def _text(record: JSON, name: str, default: str = "") -> str:
    value = record.get(name, default)
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r:.80}")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r:.80} is no list of texts")
    return tuple(values)


def _in_order(definitions: Mapping[str, Definition]) -> tuple[str, ...]:
    graph = {name: [n for n in d.upstream if n in definitions] for name, d in definitions.items()}
    try:
        return tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        path = " -> ".join(reversed(error.args[1]))
        raise _nonsense("the pipeline", f"has models that read each other: {path}") from error


def _nonsense(what: str, said: str) -> FormatError:
    return FormatError(
        f"{MODELS}: {what} in its log {said}",
        path=layout.log_prefix(MODELS),
        hint="Views of models are left out. Upgrade lakehouse if a newer one wrote it; else run: lakehouse build",
    )
