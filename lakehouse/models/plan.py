"""What a build has to do: the files in `models/` held against the definitions in the log. Nothing is computed here.

A build without work reads files and logs only: no SQL is parsed and no database is opened.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.core.definition import ABOUT, Definition, Input, Reference, read_definitions
from lakehouse.errors import FormatError, IntegrityError, UserError
from lakehouse.models import graph
from lakehouse.models.folder import ModelFile, model_files, parse_model, parse_test, test_files
from lakehouse.models.header import split_header
from lakehouse.models.model import SOURCE, Model, Test

if TYPE_CHECKING:
    from lakehouse.core.log import Log
    from lakehouse.lake import Lake

_VERSION = 1  # of fingerprints: what models yield changed with this program


@dataclass(frozen=True, slots=True, kw_only=True)
class TestFile:
    """A test that is a file of its own.

    Attributes:
        test: The test.
        references: What it reads.
    """

    test: Test
    references: tuple[Reference, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it reads."""
        return tuple(dict.fromkeys(r.table for r in self.references if r.source == SOURCE))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is there, what is to be, and what that takes.

    Attributes:
        models: All models as they are to be, in an order in which each comes after what it reads.
        before: The definitions in force, by name.
        chosen: Names of the models to look at.
        removed: Names of definitions whose file is gone; none where only some models are chosen.
        tests: Tests that are files of their own.
        full: Compute the whole of all that is chosen, whether it is out of date or not.
        log: The log of a source, looked at once.
    """

    models: Mapping[str, Model]
    before: Mapping[str, Definition]
    chosen: Collection[str]
    removed: tuple[str, ...] = ()
    tests: tuple[TestFile, ...] = ()
    full: bool = False
    log: Callable[[str], "Log"]
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def reads(self) -> dict[str, tuple[str, ...]]:
        """The models that each model reads."""
        return graph.reads(self.models.values())

    def through(self, name: str) -> list[str]:
        """A model, and the views that it reads, straight or through others."""
        found = [name]
        for one in found:
            found += [
                r.table for r in self.models[one].references if self.is_view(r) and r.table not in found
            ]
        return list(dict.fromkeys(found))

    def behind(self, name: str) -> list[Reference]:
        """The stored tables that a model's result is made from, through the views that it reads; each once."""
        references = (r for one in self.through(name) for r in self.models[one].references)
        return list({r.name: r for r in references if not self.is_view(r)}.values())

    def is_view(self, reference: Reference) -> bool:
        """Whether it is a model that is not stored."""
        return (
            reference.source == SOURCE
            and reference.table in self.models
            and self.models[reference.table].kind == "view"
        )

    def reasons(self, name: str, positions: Mapping[str, int], now: Collection[str]) -> list[str]:
        """Why a model is out of date; nothing if it is not.

        Args:
            name: The model.
            positions: Where each log is read at.
            now: Stored models that this build changes.
        """
        anew = self.anew(name)
        if anew:
            return [anew]
        model = self.models[name]
        tested = model.tests or model.key or any(name in file.models for file in self.tests)
        if model.kind == "view" and not tested:
            return []  # there is nothing to do, and nothing to look at
        return [reason for _, reason in self.moved(name, positions, now)]

    def anew(self, name: str) -> str:
        """Why the whole of a model is to be computed, whatever its inputs are; empty if it is not."""
        before = self.before.get(name)
        if before is None:
            return "new"
        model = self.models[name]
        if before.fingerprint != self.fingerprints[name]:
            same = (before.sql, before.kind, before.key) == (model.sql, model.kind, model.key)
            return "a view that it reads changed" if same else "it changed"
        if self.full:
            return "asked for in full"
        if model.kind != "view" and changed_since(
            self.log(SOURCE), name, before.built, "", self.log(SOURCE).head
        ):
            return "something else than a build changed it"
        return ""

    def moved(
        self, name: str, positions: Mapping[str, int], now: Collection[str]
    ) -> Iterator[tuple[Reference, str]]:
        """The stored tables behind a model that are others than those it was made from, and how.

        Args:
            name: The model.
            positions: Where each log is read at.
            now: Stored models that this build changes.
        """
        for reference in self.behind(name):
            if reference.source == SOURCE and reference.table in now:
                yield reference, f"{reference.name} changed"
            else:
                how = _moved(self.log, reference, self.before[name], positions)
                if how:
                    yield reference, how

    def described(self, name: str) -> Definition:
        """What the log is to say of a model: its words and tests as they are, what a build found as it was."""
        model = self.models[name]
        before = self.before.get(name, Definition(name=name))
        tests = [*model.tests, *(file.test for file in self.tests if name in file.models)]
        return replace(
            before,
            kind=model.kind,
            language=model.language,
            path=model.path,
            sql=model.sql,
            line=model.line,
            references=model.references,
            parameters=model.parameters,
            key=model.key,
            grain=model.grain,
            description=model.description,
            about=model.columns,
            tests=tuple(
                {"kind": t.kind, "arguments": dict(t.arguments), "severity": t.severity} for t in tests
            ),
            digest=model.digest,
        )

    def is_described(self, name: str) -> bool:
        """Whether the definition in force says all that there is to say."""
        return name in self.before and self.described(name).to_json() == self.before[name].to_json()

    def apart(self) -> "Plan":
        """The plan of a build that takes nothing over: all that the chosen read is computed as well."""
        wanted = {*self.chosen, *graph.upstream(self.chosen, self.reads)}
        return replace(self, before={}, removed=(), chosen=[name for name in self.models if name in wanted])


def read(
    lake: "Lake", root: Path, *, select: Sequence[str] = (), exclude: Sequence[str] = (), full: bool = False
) -> Plan:
    """Read a project's models, and hold them against the definitions that the lake has.

    Args:
        lake: The lake.
        root: The project's folder.
        select: Which models, as `graph.select` takes it; all by default.
        exclude: Which of them not.
        full: Compute them anew, out of date or not.

    Raises:
        UserError: A file is wrong; the message names it, and the line.
    """
    log = functools.cache(lake.log)
    try:
        before = read_definitions(log(SOURCE).pipeline)
    except FormatError:  # nonsense, which a build puts right: all models are new to it
        before = {}
    files = model_files(root)
    names = {file.name for file in files}

    broken: dict[str, IntegrityError] = {}

    @functools.cache
    def tables() -> list[str]:
        found = []
        for source in lake.sources():
            try:
                found += [f"{source}.{table}" for table in log(source).tables if source != SOURCE]
            except IntegrityError as error:
                broken[source] = error
        return found

    try:
        ordered = graph.order([_model(file, before, names, tables) for file in files])
        tests = tuple(_tests(root, before, names, tables))
    except UserError as error:  # it may be about a table that cannot be known now
        raise next(
            (trouble for source, trouble in broken.items() if f"{source}." in error.message), error
        ) from None
    chosen = {model.name for model in graph.select(ordered, select, exclude=exclude)}
    # What is only read is read as it was published, whatever its file says by now.
    inforce = [
        m if m.name in chosen or m.name not in before else model_of(m.name, before[m.name]) for m in ordered
    ]
    models = {model.name: model for model in graph.order(inforce)}
    plan = Plan(
        models=models,
        before=before,
        chosen=[name for name in models if name in chosen],
        removed=() if select or exclude else tuple(sorted(set(before) - set(models))),
        tests=tests,
        full=full,
        log=log,
    )
    return replace(plan, fingerprints=_fingerprints(plan))


def changed_since(log: "Log", table: str, seq: int, digest: str, until: int) -> bool:
    """Whether a table may hold other rows at a position than at an earlier one of the same log.

    Args:
        log: The log of its source.
        table: Name of the table.
        seq: The earlier position.
        digest: Digest of the commit there; empty if it is not known.
        until: The later one.
    """
    if seq > until or (digest and seq and log.digest_at(seq) != digest[: len(log.digest_at(seq))]):
        return True
    known = log.tables.get(table)
    if known is None:
        return False
    news = known.changes_since(seq + 1)
    if any(at <= until and (change.parts or change.base) for at, change in news):
        return True
    return bool(news) and known.columns_at(seq) != known.columns_at(until)  # types alone


def _moved(
    log: Callable[[str], "Log"], reference: Reference, before: Definition, positions: Mapping[str, int]
) -> str:
    """How an input is another than the one that a definition's result was made from; empty if it is not."""
    read = before.inputs.get(reference.name)
    if read is None:
        return f"{reference.name} was not read before"
    if reference.source == ABOUT:
        return "" if read == about(log, positions) else "there are new loads"
    until = positions.get(reference.source, 0)
    if changed_since(log(reference.source), reference.table, read.seq, read.digest, until):
        return f"{reference.name}: load {read.seq} -> {until}"
    return ""


def about(log: Callable[[str], "Log"], positions: Mapping[str, int]) -> Input:
    """What stands for the position of the tables about the lake: how many loads there are, and which."""
    others = sorted((source, seq) for source, seq in positions.items() if source != SOURCE)
    said = [[source, seq, log(source).digest_at(seq)[:16] if seq else ""] for source, seq in others]
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    return Input(seq=sum(seq for _, seq in others), digest=digest)


def model_of(name: str, definition: Definition) -> Model:
    """The model that a definition was made from, without its file."""
    return Model(
        name=name,
        path=definition.path,
        kind=definition.kind,
        language=definition.language,
        sql=definition.sql,
        line=definition.line,
        key=definition.key,
        grain=definition.grain,
        description=definition.description,
        columns=definition.about,
        tests=tuple(
            Test(kind=t["kind"], arguments=t.get("arguments", {}), severity=t.get("severity", "error"))
            for t in definition.tests
            if t["kind"] != "sql"
        ),
        references=definition.references,
        parameters=definition.parameters,
        digest=definition.digest,
    )


def _model(
    file: ModelFile,
    before: Mapping[str, Definition],
    names: Collection[str],
    tables: Callable[[], Collection[str]],
) -> Model:
    """What a file says; of one that is as it was, what was understood then."""
    known = before.get(file.name)
    if known is not None and (known.digest, known.path) == (file.digest, file.path):
        model = model_of(file.name, known)
        if _is_in(file, known) and all(r.table in names for r in model.references if r.source == SOURCE):
            return model
    return parse_model(file, models=names, tables=tables)


def _is_in(file: ModelFile, known: Definition) -> bool:
    """Whether the SQL that a log has for a file is really what the file has: a log may say anything."""
    text = file.content.decode(errors="replace")
    if known.language == "python":
        return file.path.endswith(".py") and text == known.sql
    return not file.path.endswith(".py") and split_header(text, path=file.path).sql.strip().startswith(
        known.sql
    )


def _tests(
    root: Path,
    before: Mapping[str, Definition],
    names: Collection[str],
    tables: Callable[[], Collection[str]],
) -> Iterator[TestFile]:
    """The tests that are files of their own; of one that is as it was, what was understood then."""
    known = {
        (test["arguments"].get("path"), test["arguments"].get("digest")): test
        for definition in before.values()
        for test in definition.tests
        if test["kind"] == "sql"
    }
    for file in test_files(root):
        said = known.get((file.path, file.digest))
        if said is not None and said["arguments"]["sql"] in file.content.decode(errors="replace"):
            found = TestFile(
                test=Test(kind="sql", arguments=said["arguments"], severity=said["severity"]),
                references=tuple(
                    Reference(source=s, table=t, form=f) for s, t, f in said["arguments"]["reads"]
                ),
            )
            if set(found.models) <= set(names):
                yield found
                continue
        test, references = parse_test(file, models=names, tables=tables)
        reads = [[r.source, r.table, r.form] for r in references]
        arguments = {**test.arguments, "digest": file.digest, "reads": reads}
        yield TestFile(test=replace(test, arguments=arguments), references=references)


def _fingerprints(plan: Plan) -> dict[str, str]:
    """By model, what its result follows from beside the rows of stored tables: its SQL, and that of views."""
    made: dict[str, str] = {}
    for name, model in plan.models.items():  # in order
        views = sorted({r.table for r in model.references if plan.is_view(r)})
        said = [_VERSION, model.kind, model.language, model.sql, list(model.key), [made[v] for v in views]]
        text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
        made[name] = hashlib.sha256(text.encode()).hexdigest()[:32]
    return made
