"""SQL text of models: their SELECT with every table that it reads turned to a moment."""

import re
from collections.abc import Callable, Sequence

from lakehouse.core.definition import ABOUT, Definition, Reference
from lakehouse.core.layout import MODELS
from lakehouse.duck.asof import TURNED
from lakehouse.duck.names import quote

_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[A-Za-z_]\w*)'
_QUALIFIED = re.compile(  # texts and comments are met first, and left as they are
    r"(?P<skip>'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"
    rf"|(?<![\w.\"])(?P<source>{_IDENTIFIER})\s*\.\s*(?P<table>{_IDENTIFIER})(?=\s*\.)",
    re.DOTALL,
)


def view_sql(definition: Definition) -> str:
    """The body of a model's view: its SELECT with every name in full, turned by the session variable."""
    return spliced(definition, None)


def free_parameter(definition: Definition) -> str:
    """A name that is nowhere in the SELECT: a bare column of that name would mean the macro's parameter."""
    parameter, text = "_lake_t", definition.sql.lower()
    while parameter in text:
        parameter += "_"
    return parameter


def spliced(definition: Definition, moment: str | None) -> str:
    """The SELECT of a definition with every table that it reads turned to a moment; None for the session's."""
    unqualified = _unqualifying(definition.references, turned=moment is not None)
    pieces, at = [], 0
    for reference in definition.references:
        pieces += [unqualified(definition.sql[at : reference.start]), _read(reference, moment)]
        at = reference.end
    return "".join((*pieces, unqualified(definition.sql[at:])))


def _read(reference: Reference, moment: str | None) -> str:
    """What stands in the place of a table's name."""
    if reference.source == ABOUT:  # which says what is so now
        return f'"main".{quote(reference.read)}'
    plain = f"{quote(reference.source)}.{quote(reference.read)}"
    alias = "" if reference.alias else f" AS {quote(reference.read)}"
    if reference.form == "history":
        return f"{quote(reference.source)}.{quote(f'{reference.read}_at')}({moment or TURNED}){alias}"
    if reference.form or moment is None:
        return plain
    return f"{quote(reference.source)}.{quote(f'{reference.table}_at')}({moment}){alias}"


def _unqualifying(references: Sequence[Reference], *, turned: bool) -> Callable[[str], str]:
    """What takes the source from the names of columns, where a macro stands in the place of a table.

    `shop.products.price` is a column of the table `shop.products`, but not of what a macro gives.
    """
    named = {
        (r.source.lower(), r.read.lower()): quote(r.read)
        for r in references
        if not r.alias and r.source != ABOUT and (r.form == "history" or (turned and not r.form))
    }

    def replaced(found: re.Match[str]) -> str:
        if found["skip"]:
            return found[0]
        return named.get((_plain(found["source"]), _plain(found["table"])), found[0])

    return lambda text: _QUALIFIED.sub(replaced, text) if named else text


def _plain(identifier: str) -> str:
    unquoted = identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier
    return unquoted.lower()


def named(name: str) -> str:
    """A view or macro in the schema of the models."""
    return f"{quote(MODELS)}.{quote(name)}"


def create_view(name: str, sql: str) -> str:
    """The statement that makes a view in the schema of the models."""
    return f"CREATE OR REPLACE VIEW {named(name)} AS {sql}"


def create_macro(name: str, sql: str, parameter: str = "t") -> str:
    """The statement that makes a macro in the schema of the models."""
    return f"CREATE OR REPLACE MACRO {named(name)}({quote(parameter)}) AS TABLE {sql}"
