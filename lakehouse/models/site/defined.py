"""What the log of `models` says about models: their definitions, as JSON values for the catalogue.

A log is data that others wrote: a definition of a shape that we do not know is left out, and said to be.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from lakehouse.models.model import KINDS, SOURCE

_INNER = ("columns", "about", "lineage")
_TEXTS = ("language", "path", "sql", "grain", "description", "digest")


def models(pipeline: Mapping[str, Any] | None) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The models that are in force.

    Args:
        pipeline: The newest pipeline state of the log of `models`.

    Returns:
        By name, in order of name; and the names of definitions that cannot be read.
    """
    said = (pipeline or {}).get("models")
    found: dict[str, Any] = said if isinstance(said, dict) else {}
    good: dict[str, dict[str, Any]] = {}
    bad: list[str] = []
    for name in sorted(found):
        try:
            good[name] = _model(name, found[name])
        except (TypeError, ValueError, KeyError, AttributeError):
            bad.append(name)
    return good, bad


def described(model: Mapping[str, Any], table: Mapping[str, Any] | None) -> dict[str, Any]:
    """A model as an entry of the catalogue, with what the log says of its table, if it has one.

    Args:
        model: Its definition, of `models`.
        table: What `tables.described` says of its table; None for a view.
    """
    entry = dict(table or {}) | {name: value for name, value in model.items() if name not in _INNER}
    known: dict[str, dict[str, Any]] = {column["name"]: dict(column) for column in entry.get("columns", ())}
    for name, kind in model["columns"]:
        known[name] = known.get(name, {"name": name}) | {"type": kind}
    now = [name for name, _ in model["columns"]]
    entry["columns"] = [known[name] for name in dict.fromkeys((*now, *known))]
    for column in entry["columns"]:
        _tell(column, model)
    return entry


def _tell(column: dict[str, Any], model: Mapping[str, Any]) -> None:
    about, comes_from = model["about"].get(column["name"]), model["lineage"].get(column["name"])
    if about:
        column["description"] = about
    if comes_from:
        column["from"] = comes_from


def _model(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(found.get("kind", "view"))
    if kind not in KINDS:
        raise ValueError(kind)
    inputs = {str(table): _input(at) for table, at in found.get("inputs", {}).items()}
    references = [_reference(reference) for reference in found.get("references", ())]
    return {
        "name": f"{SOURCE}.{name}",
        "kind": kind,
        "line": int(found.get("line", 1)),
        "key": [str(column) for column in found.get("key", ())],
        "references": references,
        "parameters": [str(parameter) for parameter in found.get("parameters", ())],
        "inputs": list(_inputs(references, inputs)),
        "tests": [_test(test) for test in found.get("tests", ())],
        "columns": [(str(column), str(kind)) for column, kind in found.get("columns", ())],
        "about": {str(column): str(text) for column, text in found.get("about", {}).items()},
        "lineage": {str(c): [str(origin) for origin in of] for c, of in found.get("lineage", {}).items()},
    } | {part: str(found[part]) for part in _TEXTS if found.get(part)}


def _input(at: Mapping[str, Any]) -> dict[str, Any]:
    return {"seq": int(at["seq"])} | ({"digest": str(at["digest"])} if at.get("digest") else {})


def _inputs(references: list[dict[str, Any]], read: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What it reads, each table once, in order of appearance; with the position, where one was recorded."""
    forms: dict[str, list[str]] = {}
    for reference in references:
        of_table = forms.setdefault(reference["table"], [])
        if reference["form"] and reference["form"] not in of_table:
            of_table.append(reference["form"])
    for table in [*forms, *(table for table in read if table not in forms)]:
        yield {"name": table} | ({"forms": forms[table]} if forms.get(table) else {}) | read.get(table, {})


def _reference(found: Any) -> dict[str, Any]:
    source, table, form, start, end = found[:5]
    return {"table": f"{source}.{table}", "form": str(form or ""), "start": int(start), "end": int(end)}


def _test(found: Mapping[str, Any]) -> dict[str, Any]:
    known = ("kind", "arguments", "severity")
    arguments = found.get("arguments", {})
    if not isinstance(arguments, dict):
        raise TypeError(arguments)
    test = {"kind": str(found["kind"]), "severity": str(found.get("severity", "error"))}
    return test | {"arguments": arguments} | {n: v for n, v in found.items() if n not in known}
