"""What the log of `models` says about models, as JSON values for the catalogue."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lakehouse.models import audit
from lakehouse.models.model import SOURCE, Model, Test

if TYPE_CHECKING:
    from lakehouse.core.definition import Definition
    from lakehouse.lake import Lake


def described(
    model: "Definition", table: Mapping[str, Any] | None, failures: Mapping[str, int]
) -> dict[str, Any]:
    """A model as an entry of the catalogue, with what the log says of its table, if it has one.

    Args:
        model: Its definition.
        table: What `tables.described` says of its table; None for a view.
        failures: Rows that its tests found when they were last run, by `audit.label`.
    """
    words = ("language", "path", "sql", "line", "grain", "description", "digest", "built")
    return {
        "name": f"{SOURCE}.{model.name}",
        **(table or {}),
        "kind": model.kind,
        **{name: value for name in words if (value := getattr(model, name))},
        "key": list(model.key),
        "reads": list(_reads(model)),
        "references": [[r.name, r.start, r.end] for r in model.references if model.language == "sql"],
        "inputs": [{"name": n, "seq": i.seq, "digest": i.digest} for n, i in model.inputs.items()],
        "columns": _columns(model, (table or {}).get("columns", ())),
        "tests": [_test(test, failures) for test in _tests(model)],
    }


def last_failures(lake: "Lake") -> dict[str, dict[str, int]]:
    """How many rows the tests of each model found when they were last run, as far as they are kept.

    They are derived, so a mirror has none, and what cannot be read is as if it were not there.
    """
    from lakehouse.errors import FormatError
    from lakehouse.models.failures import kept_failures

    found: dict[str, dict[str, int]] = {}
    try:
        for kept in kept_failures(lake):
            found.setdefault(kept.model, {})[kept.test] = kept.failures
    except FormatError:
        return {}
    return found


def _reads(model: "Definition") -> Iterator[dict[str, Any]]:
    """The tables that it names, each once, in order of appearance."""
    for name in model.reads:
        forms = dict.fromkeys(r.form for r in model.references if r.name == name and r.form)
        yield {"name": name} | ({"forms": list(forms)} if forms else {})


def _columns(model: "Definition", stored: Any) -> list[dict[str, Any]]:
    """The columns that it yields, in their order; then those that its table had before."""
    known: dict[str, dict[str, Any]] = {column["name"]: dict(column) for column in stored}
    for name, kind in model.columns:
        known[name] = known.get(name, {"name": name}) | {"type": kind}
    names = dict.fromkeys((*(name for name, _ in model.columns), *known))
    for name in names:
        if model.about.get(name):
            known[name]["description"] = model.about[name]
        if model.lineage.get(name):
            known[name]["from"] = list(model.lineage[name])
    return [known[name] for name in names]


def _tests(model: "Definition") -> tuple[Test, ...]:
    """Its tests, that of its key among them."""
    said = tuple(
        Test(
            kind=str(test.get("kind", "")),
            arguments=dict(test.get("arguments", {})),
            severity=str(test.get("severity", "error")),
        )
        for test in model.tests
    )
    try:
        return audit.tests_of(Model(name=model.name, path=model.path, key=model.key, tests=said))
    except (KeyError, TypeError, AttributeError):  # arguments of a shape that nobody knows
        return said


def _test(test: Test, failures: Mapping[str, int]) -> dict[str, Any]:
    try:
        label, columns = audit.label(test), list(audit.columns_of(test))
    except (KeyError, TypeError, AttributeError):
        label, columns = test.kind, []
    found = failures.get(label, 0)
    return {
        "kind": test.kind,
        "label": label,
        "columns": columns,
        "arguments": test.arguments,
        "severity": test.severity,
    } | ({"failures": found} if found else {})
