"""The folder `models/`: which files are models, and what each says.

Listing them is cheap, as every command that builds does it first; parsing a file is not, and waits until it is asked for.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lakehouse.core.layout import check_table_name
from lakehouse.errors import UserError
from lakehouse.models.header import OF_TEST, Header, read_header, split_header
from lakehouse.models.model import SOURCE, Model, Reference, Test
from lakehouse.models.names import Named, Resolver
from lakehouse.models.place import Place
from lakehouse.models.python import read_python
from lakehouse.models.references import references_of
from lakehouse.models.statement import parse_statement

FOLDER = "models"
TESTS = f"{FOLDER}/tests"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file in `models/`.

    Attributes:
        name: Its name without the ending.
        path: The file, below the project's root, with `/`.
        content: Its bytes.
        digest: Their SHA-256, in hex.
    """

    name: str
    path: str
    content: bytes
    digest: str


def model_files(root: Path) -> list[ModelFile]:
    """The models of a project, by path: `models/**/*.sql` and `*.py`, without `models/tests/`.

    Names that begin with `_` or `.` are no models, nor is what lies in folders of such names.

    Args:
        root: The project's folder.

    Raises:
        UserError: A file has a name that no table can have, or two have the same.
    """
    files = _files(root, FOLDER, (".sql", ".py"), without=TESTS)
    for file in files:
        try:
            check_table_name(file.name)
        except UserError as error:
            raise UserError(f"{file.path}: {error.message}", hint=error.hint) from None
    _check_names(files, "models")
    _check_beside(files)
    return files


def test_files(root: Path) -> list[ModelFile]:
    """The tests in files of their own, by path: `models/tests/**/*.sql`.

    Args:
        root: The project's folder.

    Raises:
        UserError: Two have the same name.
    """
    files = _files(root, TESTS, (".sql",))
    _check_names(files, "tests")
    return files


def _files(root: Path, below: str, endings: tuple[str, ...], without: str = "") -> list[ModelFile]:
    return [
        ModelFile(name=name, path=path, content=content, digest=hashlib.sha256(content).hexdigest())
        for path, name in sorted(_listed(f"{root}/", below, endings, without))
        for content in [_content(f"{root}/{path}", path)]
    ]


def _listed(root: str, below: str, endings: tuple[str, ...], without: str) -> Iterator[tuple[str, str]]:
    try:
        entries = list(os.scandir(root + below))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        path = f"{below}/{entry.name}"
        if entry.name.startswith(("_", ".")) or path == without:
            continue
        name, ending = os.path.splitext(entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from _listed(root, path, endings, without)
        elif ending.lower() in endings and entry.is_file():
            yield path, name


def _content(place: str, path: str) -> bytes:
    try:
        with open(place, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror})", hint="Look at its permissions."
        ) from error


def _check_names(files: Collection[ModelFile], what: str) -> None:
    seen: dict[str, ModelFile] = {}
    for file in files:
        first = seen.setdefault(file.name.lower(), file)
        if first is not file:
            how = "the same name" if first.name == file.name else "names that differ only in case"
            raise UserError(
                f"{first.path} and {file.path}: two {what} with {how}",
                hint="The folder does not count: rename one of them.",
            )


def _check_beside(files: Collection[ModelFile]) -> None:
    """Refuse names of what stands beside another model: its history, its past, its changes."""
    names = {file.name.lower(): file for file in files}
    for file in files:
        for end in ("_history_at", "_history", "_at", "_diff"):
            base = names.get(file.name.lower().removesuffix(end)) if file.name.lower().endswith(end) else None
            if base is not None:
                msg = f"{file.path}: models.{file.name} is what stands beside models.{base.name} already"
                raise UserError(msg, hint="Choose another name.")


def parse_model(file: ModelFile, *, models: Collection[str], tables: Callable[[], Collection[str]]) -> Model:
    """What a file in `models/` says.

    Args:
        file: The file.
        models: Names of all models.
        tables: All tables of the lake as `source.table`; asked for only if one is read.

    Raises:
        UserError: Something in it is wrong, or it reads what is not there; with file and line.
    """
    if not _text(file).strip():
        raise UserError(f"{file.path}: is empty", hint="Write a SELECT, or delete the file.")
    if file.path.lower().endswith(".py"):
        return _python(file, models, tables)
    return _sql(file, models, tables)


def _sql(file: ModelFile, models: Collection[str], tables: Callable[[], Collection[str]]) -> Model:
    pieces = split_header(_text(file), path=file.path)
    header = read_header(pieces.header, Place(path=file.path, line=pieces.header_line))
    statement = parse_statement(pieces.sql, Place(path=file.path, line=pieces.line))
    return Model(
        **_said(file, header, Resolver(models=models, tables=tables)),
        kind=header.kind or "view",
        sql=statement.sql,
        line=pieces.line,
        references=references_of(statement, models=models, tables=tables, itself=file.name),
    )


def _python(file: ModelFile, models: Collection[str], tables: Callable[[], Collection[str]]) -> Model:
    text = _text(file)
    header, parameters = read_python(text, name=file.name, path=file.path)
    resolver = Resolver(models=models, tables=tables, itself=file.name)
    place = Place(path=file.path, line=header.lines.get("inputs", 1))
    return Model(
        **_said(file, header, resolver),
        kind="table",
        language="python",
        sql=text,
        references=tuple(_input(header.inputs[name], resolver, place) for name in parameters),
        parameters=parameters,
    )


def _said(file: ModelFile, header: Header, resolver: Resolver) -> dict[str, Any]:
    """What every model has."""
    return {
        "name": file.name,
        "path": file.path,
        "key": header.key,
        "grain": header.grain,
        "description": header.description,
        "columns": header.columns,
        "tests": tuple(_related(test, file, resolver) for test in header.tests),
        "digest": file.digest,
    }


def _related(test: Test, file: ModelFile, resolver: Resolver) -> Test:
    """A test with the table that it names in the lake's spelling."""
    if "to" not in test.arguments:
        return test
    written: str = test.arguments["to"]
    place = Place(path=file.path, line=test.line)
    schema, name, *column = written.split(".", 2)
    found = resolver.resolve(schema, name) if column else None
    if found is None and resolver.resolve(
        "", schema
    ):  # a model goes without its schema, a column may have dots
        found, column = resolver.resolve("", schema), written.split(".", 1)[1:]
    if found is None or found.form:
        table = f"{schema}.{name}" if column else schema
        if not column and resolver.resolve(schema, name):
            raise place.error(f"`to` is {written}, without a column", hint=f"Write: to: {written}.COLUMN")
        raise _no_table(table, resolver, place)
    return replace(test, arguments={**test.arguments, "to": f"{found.name}.{column[0]}"})


def _text(file: ModelFile) -> str:
    try:
        return file.content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + file.content.count(b"\n", 0, error.start)
        raise Place(path=file.path, line=line).error(
            f"is not UTF-8 (byte {error.start} is 0x{file.content[error.start]:02x})",
            hint="Save the file as UTF-8.",
        ) from None


def _input(written: str, resolver: Resolver, place: Place) -> Reference:
    schema, _, name = written.rpartition(".")
    found = resolver.resolve(schema, name)
    if found is None or found.name == f"{SOURCE}.{resolver.itself}":
        raise _no_table(written, resolver, place)
    return found


def _no_table(written: str, resolver: Resolver, place: Place) -> UserError:
    schema, _, name = written.rpartition(".")
    named = Named(schema=schema, name=name, called=False, start=0, end=0, alias=False)
    message, hint = resolver.trouble(named, written)
    return place.error(message, hint=hint)


def parse_test(
    file: ModelFile, *, models: Collection[str], tables: Callable[[], Collection[str]]
) -> tuple[Test, tuple[Reference, ...]]:
    """What a file in `models/tests/` says, and the tables that it reads.

    Args:
        file: The file.
        models: Names of all models.
        tables: All tables of the lake as `source.table`; asked for only if one is read.

    Returns:
        A test of kind `sql`, whose arguments are its `name`, `path`, `sql` and `description`; and what it reads.

    Raises:
        UserError: Something in it is wrong, or it reads no model; with file and line.
    """
    pieces = split_header(_text(file), path=file.path)
    header = read_header(pieces.header, Place(path=file.path, line=pieces.header_line), known=OF_TEST)
    statement = parse_statement(pieces.sql, Place(path=file.path, line=pieces.line))
    found = references_of(statement, models=models, tables=tables)
    if not any(reference.source == SOURCE for reference in found):
        raise statement.place.error(
            "reads no model, so it would never be run",
            hint="A test is run for each model that it reads; a table of the lake is watched by its gates.",
        )
    arguments = {
        "name": file.name,
        "path": file.path,
        "sql": statement.sql,
        "description": header.description,
    }
    test = Test(kind="sql", arguments=arguments, severity=header.severity, line=pieces.line)
    return test, found
