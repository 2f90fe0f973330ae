"""What models read of each other: their order, circles, and which of them are chosen."""

import fnmatch
import graphlib
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence

from lakehouse.errors import NotFoundError, UserError
from lakehouse.models.model import SOURCE, Model
from lakehouse.models.place import meant

_SUCH_AS = "Such as name, +name (and what it reads), name+ (and what reads it), daily_*, shop.products+, models/daily/*."


def reads(models: Iterable[Model]) -> dict[str, tuple[str, ...]]:
    """The models that each model reads, by name; tables of the lake left out."""
    listed = list(models)
    names = {model.name for model in listed}
    return {
        model.name: tuple(
            dict.fromkeys(r.table for r in model.references if r.source == SOURCE and r.table in names)
        )
        for model in listed
    }


def order(models: Iterable[Model]) -> list[Model]:
    """Models, each after those that it reads; of those that could come in any order, by name.

    Raises:
        UserError: They read each other in a circle, or one reads of another what its kind does not have.
    """
    by_name = {model.name: model for model in sorted(models, key=lambda model: model.name)}
    _check_forms(by_name)
    sorter = graphlib.TopologicalSorter(reads(by_name.values()))
    try:
        return [by_name[name] for name in sorter.static_order()]
    except graphlib.CycleError as error:
        raise _circle(error.args[1], by_name) from None


def _circle(path: Sequence[str], models: Mapping[str, Model]) -> UserError:
    """The error for models that read each other: the path as data flows, and where each is read."""
    around = list(path[:-1])  # each is read by the one after it
    start = around.index(min(around))
    turned = [*around[start:], *around[:start], around[start]]
    steps = [
        f"    {_where(models[reader], read)} reads {read}" for read, reader in itertools.pairwise(turned)
    ]
    shown = "\n".join(steps)
    return UserError(
        f"models read each other in a circle: {' -> '.join(turned)}\n{shown}",
        hint="Take one of these out, or put what both need into a model that they read.",
    )


def _where(model: Model, table: str) -> str:
    """The file of a model, and the line on which it reads another."""
    found = next(r for r in model.references if r.source == SOURCE and r.table == table)
    return f"{model.path}:{model.line + model.sql.count(chr(10), 0, found.start)}"


def _check_forms(models: Mapping[str, Model]) -> None:
    """Refuse `_diff` and `_history` of models that have none."""
    for model in models.values():
        for reference in model.references:
            other = models.get(reference.table) if reference.source == SOURCE else None
            if other is None or reference.form not in ("history", "diff"):
                continue
            if other.kind == "view":
                lacks, do = "a view, of which nothing is stored", "Write `kind: table` into its header"
            elif reference.form == "history" and not other.key:
                lacks, do = "a table without a key", "Write a `key` into its header"
            else:
                continue
            raise UserError(
                f"{_where(model, other.name)}: reads _{reference.form} of {other.name}, which is {lacks}",
                hint=f"{do} ({other.path}).",
            )


def upstream(names: Iterable[str], reads: Mapping[str, Collection[str]]) -> set[str]:
    """The models that some models read, straight or through others; they themselves left out if none reads them.

    Args:
        names: Where to begin.
        reads: The models that each model reads.
    """
    found: set[str] = set()
    todo = [other for name in names for other in reads.get(name, ())]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(reads.get(name, ()))
    return found


def downstream(names: Iterable[str], reads: Mapping[str, Collection[str]]) -> set[str]:
    """The models that read some models, straight or through others.

    Args:
        names: Where to begin.
        reads: The models that each model reads.
    """
    readers: dict[str, list[str]] = {}
    for reader, read in reads.items():
        for name in read:
            readers.setdefault(name, []).append(reader)
    return upstream(names, readers)


def select(
    models: Sequence[Model], patterns: Iterable[str] = (), *, exclude: Iterable[str] = ()
) -> list[Model]:
    """The models that patterns choose, in the order in which they came.

    A pattern is a name, one with `*`, `?` and `[…]`, or a path. With `+` before it what it reads is chosen as
    well, with `+` after it what reads it. A table of the lake may stand before a `+`: `shop.products+`.

    Args:
        models: All models.
        patterns: What to choose; all, if there are none.
        exclude: What to leave out of that.

    Raises:
        NotFoundError: A pattern means nothing.
    """
    wanted = list(patterns) or ["*"]
    chosen = set().union(*(_chosen(models, pattern) for pattern in wanted)) if models else set()
    for pattern in exclude:
        chosen -= _chosen(models, pattern)
    return [model for model in models if model.name in chosen]


def _chosen(models: Sequence[Model], pattern: str) -> set[str]:
    """Names of the models that one pattern means."""
    bare = pattern.strip().removeprefix("+").removesuffix("+")
    above, below = pattern.strip().startswith("+"), pattern.strip().endswith("+")
    edges = reads(models)
    found = {model.name for model in models if _means(bare, model)}
    if not found and below:
        readers = {model.name for model in models if _reads(model, bare)}
        if readers:
            found = readers
    if not found:
        raise _unknown(models, pattern, bare)
    more = upstream(found, edges) if above else set()
    return found | more | (downstream(found, edges) if below else set())


def _means(bare: str, model: Model) -> bool:
    if "/" in bare:
        path = bare.removeprefix("./").rstrip("/")
        return fnmatch.fnmatchcase(model.path, path) or model.path.startswith(f"{path}/")
    return fnmatch.fnmatchcase(model.name.lower(), bare.lower().removeprefix(f"{SOURCE}."))


def _reads(model: Model, table: str) -> bool:
    """Whether a model reads a table of the lake itself."""
    return any(
        r.source != SOURCE and fnmatch.fnmatchcase(r.name.lower(), table.lower()) for r in model.references
    )


def _unknown(models: Sequence[Model], pattern: str, bare: str) -> NotFoundError:
    tables = {r.name for model in models for r in model.references if r.source != SOURCE}
    if any(fnmatch.fnmatchcase(table.lower(), bare.lower()) for table in tables):
        hint = f"It is a table of the lake; for the models that read it write {bare}+"
    else:
        hint = meant(bare, [*(model.name for model in models), *tables]) or _SUCH_AS
    return NotFoundError(f"no model is meant by {pattern!r}", hint=hint)
