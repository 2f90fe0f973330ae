"""Names of tables, brought from how they are written to how the lake spells them; and what may have been meant."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from lakehouse.models.model import SOURCE, Reference
from lakehouse.models.place import meant, near

LAKE = "lakehouse"  # the schema of the tables about the lake
ABOUT = ("about", "columns", "files", "loads", "table_loads", "tables", "tags")

_OF_DUCKDB = ("information_schema", "pg_catalog", "main", "temp", "system")
_SUFFIX = re.compile(r"_(at|diff|history)$", re.IGNORECASE)
_CALLED = {"_at": "at", "_diff": "diff"}


class Named(NamedTuple):
    """A table as it is written in a SELECT.

    Attributes:
        schema: The schema, or nothing.
        name: The name, without quotes.
        called: Whether it has arguments.
        start: Where it begins, in characters.
        end: Where it ends, arguments left out.
        alias: Whether it is given another name.
    """

    schema: str
    name: str
    called: bool
    start: int
    end: int
    alias: bool


def form_of(name: str) -> str:
    """The suffix of a name that is a form with arguments."""
    return next((suffix for suffix in _CALLED if name.lower().endswith(suffix)), "")


@dataclass(kw_only=True)
class Resolver:
    """Names as they are written, brought to the lake's spelling.

    Attributes:
        models: Names of all models.
        tables: All tables of the lake as `source.table`; asked for only if one is read.
        itself: Name of the model that is read.
    """

    models: Collection[str]
    tables: Callable[[], Collection[str]]
    itself: str = ""

    @cached_property
    def _models(self) -> dict[str, str]:
        return {name.lower(): name for name in self.models}

    @cached_property
    def _tables(self) -> dict[str, str]:
        listed = {name.lower(): name for name in self.tables()}
        return {name: spelled for name, spelled in listed.items() if not name.startswith(f"{SOURCE}.")}

    @cached_property
    def _sources(self) -> dict[str, str]:
        return {name.lower(): name for name in (t.split(".")[0] for t in self._tables.values())}

    def resolve(self, schema: str, name: str, *, called: bool = False) -> Reference | None:
        """What a name means; None if there is no such table.

        Args:
            schema: The schema as it is written, or nothing.
            name: The name as it is written.
            called: Whether it has arguments.
        """
        if not called:
            exact = self._table(schema, name)
            if exact or not name.lower().endswith("_history"):
                return exact
            base, form = name[: -len("_history")], "history"
        else:
            suffix = form_of(name)
            base, form = name[: len(name) - len(suffix)], _CALLED.get(suffix, "")
        found = self._table(schema, base) if form else None
        return replace(found, form=form) if found and found.source != LAKE else None

    def _table(self, schema: str, name: str) -> Reference | None:
        folded = name.lower()
        if schema.lower() in ("", SOURCE):
            return Reference(source=SOURCE, table=self._models[folded]) if folded in self._models else None
        if schema.lower() == LAKE:
            return Reference(source=LAKE, table=folded) if folded in ABOUT else None
        found = self._tables.get(f"{schema.lower()}.{folded}")
        source, _, table = (found or "").partition(".")
        return Reference(source=source, table=table) if found else None

    def trouble(self, table: Named, text: str) -> tuple[str, str]:
        """What is wrong with a name that means no table, and what to do."""
        found = self.resolve(table.schema, table.name, called=table.called)
        if found:
            return f"{text} is the model itself", (
                "A model cannot read itself; `kind: incremental` keeps what was computed before. "
                "A table of that name is written with its source."
            )
        plain_form = self.resolve(table.schema, table.name, called=not table.called)
        if plain_form and not table.called:
            return (
                f"{text} wants its arguments",
                "Such as: _at('2026-11-01'), _diff('2026-10-01', '2026-11-01').",
            )
        if plain_form:
            return (
                f"{text} takes no arguments",
                "As of a moment it is written with _at: shop.products_at('2026-11-01').",
            )
        return f"there is no table {text}", self._hint(table)

    def _hint(self, table: Named) -> str:
        name, schema = table.name, table.schema.lower()
        if schema == LAKE:
            return f"{meant(name, ABOUT)}Tables about the lake: {', '.join(ABOUT)}."
        if schema == SOURCE:
            others = [other for other in self.models if other != self.itself]
            return meant(name, others) or f"A model is a file: models/{name}.sql."
        if not schema:
            return self._hint_of_plain(name)
        if schema in _OF_DUCKDB:
            return f"That is DuckDB's own. About the lake: {', '.join(f'{LAKE}.{name}' for name in ABOUT)}."
        if schema not in self._sources:
            known = meant(table.schema, [*self._sources.values(), SOURCE, LAKE])
            return f"{known}The lake has no source `{table.schema}`; if there is a scraper: lakehouse ingest {table.schema}"
        source = self._sources[schema]
        own = sorted(full for full in self._tables.values() if full.startswith(f"{source}."))
        base = _SUFFIX.sub("", name)
        listed = meant(f"{source}.{base}", own, cutoff=0.8) or f"{source} has: {', '.join(own[:10])}. "
        return f"{listed}If it is new in the scraper: lakehouse ingest {source}"

    def _hint_of_plain(self, name: str) -> str:
        base = _SUFFIX.sub("", name).lower()
        same = [
            full + name[len(base) :]
            for full in self._tables.values()
            if full.split(".", 1)[1].lower() == base
        ]
        if same:
            return (
                f"Write {' or '.join(f'`{full}`' for full in same[:3])}: only models go without their schema."
            )
        if base in ABOUT:
            return f"Write `{LAKE}.{base}`: only models go without their schema."
        others = [other for other in self.models if other != self.itself]
        ends = {full.split(".", 1)[1]: full for full in self._tables.values()}
        found = [*near(base, others), *(ends[end] for end in near(base, ends))][:3]
        if found:
            return f"Did you mean {' or '.join(f'`{n}`' for n in found)}?"
        return f"A model is a file, models/{name}.sql; a table of the lake is written as source.table."
