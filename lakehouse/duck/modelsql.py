"""SQL text of models: their SELECT with every table that it reads turned to a moment."""

from lakehouse.core.definition import ABOUT, Definition, Reference
from lakehouse.core.layout import MODELS
from lakehouse.duck.asof import TURNED
from lakehouse.duck.names import quote


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
    pieces, at = [], 0
    for reference in definition.references:
        pieces += [definition.sql[at : reference.start], _read(reference, moment)]
        at = reference.end
    return "".join((*pieces, definition.sql[at:]))


def _read(reference: Reference, moment: str | None) -> str:
    """What stands in the place of a table's name."""
    if reference.source == ABOUT:  # which says what is so now
        return f'"main".{quote(reference.read)}'
    plain = f"{quote(reference.source)}.{quote(reference.read)}"
    alias = "" if reference.alias else f" AS {quote(reference.read)}"
    if reference.form == "history":  # the view of it is not turned
        return f"{quote(reference.source)}.{quote(f'{reference.read}_at')}({moment or TURNED}){alias}"
    if reference.form or moment is None:
        return plain
    return f"{quote(reference.source)}.{quote(f'{reference.table}_at')}({moment}){alias}"


def named(name: str) -> str:
    """A view or macro in the schema of the models."""
    return f"{quote(MODELS)}.{quote(name)}"


def create_view(name: str, sql: str) -> str:
    """The statement that makes a view in the schema of the models."""
    return f"CREATE OR REPLACE VIEW {named(name)} AS {sql}"


def create_macro(name: str, sql: str, parameter: str = "t") -> str:
    """The statement that makes a macro in the schema of the models."""
    return f"CREATE OR REPLACE MACRO {named(name)}({quote(parameter)}) AS TABLE {sql}"
