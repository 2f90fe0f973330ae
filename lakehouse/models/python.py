"""A Python model as it stands in its file: read with `ast`, never run here."""

import ast
import textwrap

from lakehouse.models.header import OF_PYTHON, Header, read_header
from lakehouse.models.place import Place, meant


def read_python(text: str, *, name: str, path: str) -> tuple[Header, tuple[str, ...]]:
    """The header of a Python model, and the parameters of its function.

    Args:
        text: The file.
        name: What the function is called.
        path: The file, for errors.

    Raises:
        UserError: It is no Python, has no such function, or `inputs` does not say what its parameters are.
    """
    tree = _parsed(text, path)
    header = _docstring(tree, path)
    if header.kind not in ("", "table"):
        raise Place(path=path, line=header.lines["kind"]).error(
            f"`kind` is {header.kind!r}", hint="A Python model is always a table: leave `kind` out."
        )
    return header, _parameters(tree, header, name, path)


def _parsed(text: str, path: str) -> ast.Module:
    try:
        return ast.parse(text, filename=path)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        what = getattr(error, "msg", None) or str(error)
        raise Place(path=path, line=line).error(
            f"is no Python that can be read: {what}", hint="Mend that line."
        ) from None


def _docstring(tree: ast.Module, path: str) -> Header:
    first = tree.body[0] if tree.body else None
    text = ast.get_docstring(tree, clean=False)
    if text is None or first is None:
        return Header()
    before, _, others = text.partition("\n")
    return read_header(
        f"{before.strip()}\n{textwrap.dedent(others)}".rstrip(),
        Place(path=path, line=first.lineno),
        known=OF_PYTHON,
    )


def _parameters(tree: ast.Module, header: Header, name: str, path: str) -> tuple[str, ...]:
    """The parameters of the model's function, each of them an input."""
    place = Place(path=path)
    functions = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    function = functions.get(name)
    if function is None:
        raise place.error(
            f"there is no function `{name}`",
            hint=f"{meant(name, functions)}A Python model is the function that is called like its file.",
        )
    place = Place(path=path, line=function.lineno)
    given = function.args
    if isinstance(function, ast.AsyncFunctionDef) or given.vararg or given.kwarg or given.posonlyargs:
        raise place.error(
            f"`{name}` is async, or takes *, ** or parameters without a name",
            hint="A Python model is a plain function of the frames that `inputs` names.",
        )
    names = [a.arg for a in (*given.args, *given.kwonlyargs)]
    missing = [each for each in names if each not in header.inputs]
    if missing:
        raise place.error(
            f"`inputs` does not say what the parameter `{missing[0]}` is",
            hint=f"Write it in the docstring of the file: inputs: {{{missing[0]}: source.table}}",
        )
    unused = [each for each in header.inputs if each not in names]
    if unused:
        raise Place(path=path, line=header.lines["inputs"]).error(
            f"`inputs` names `{unused[0]}`, which is no parameter of `{name}`",
            hint=meant(unused[0], names) or "Add it to the function, or leave it out.",
        )
    return tuple(names)
