"""A YAML mapping read strictly: with the line of every value, no key twice, and plain words left as they are.

`yes`, `on`, `2026-11-01`, `12:30` and `007` are text here; only `true` and `false` are truth values, and only what
looks like a number in JSON is one. So a value reads the same as the SQL beside it, and all of it is JSON.
"""

import functools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from lakehouse.models.place import Place

if TYPE_CHECKING:
    import yaml


class Said(NamedTuple):
    """A value of a header, and where it stands.

    Attributes:
        value: Text, numbers, truth values, null, lists and mappings.
        place: Where it begins.
        lines: Of a list: the line of the file of each item.
    """

    value: Any
    place: Place
    lines: tuple[int, ...] = ()


def read_mapping(text: str, place: Place) -> dict[str, Said]:
    """Read a mapping in YAML.

    Args:
        text: The YAML.
        place: Where it begins.

    Raises:
        UserError: It is no YAML, no mapping, has a key twice, or a key that is no text.
    """
    import yaml

    loader = _loader()(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise place.error("the header is no mapping", hint="Write `name: value`, one a line.")
        _check_keys(node, place, set())
        return {key.value: _said(loader, key, value, place) for key, value in node.value}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise place.error(
            f"the header is no YAML: {problem}",
            line=place.line + mark.line if mark else None,
            hint='Text with a colon, or a quote or bracket at its beginning, goes into quotes: description: "…". '
            "Other comments go below the header, after a blank line.",
        ) from None
    finally:
        loader.dispose()


def _said(loader: Any, key: "yaml.Node", node: "yaml.Node", place: Place) -> Said:
    line = place.line + key.start_mark.line
    items = node.value if node.id == "sequence" else ()
    return Said(
        loader.construct_object(node, deep=True),
        Place(path=place.path, line=line),
        tuple(place.line + item.start_mark.line for item in items),
    )


def _check_keys(node: "yaml.Node", place: Place, seen: set[int]) -> None:
    """Refuse keys that are said twice, of which YAML would silently take the last."""
    if id(node) in seen or node.id == "scalar":
        return
    seen.add(id(node))
    if node.id == "sequence":
        for item in node.value:
            _check_keys(item, place, seen)
        return
    keys: set[str] = set()
    for key, value in node.value:
        line = place.line + key.start_mark.line
        if key.id != "scalar":
            raise place.error("a key of the header is no word", line=line, hint="Write `name: value`.")
        if key.value in keys:
            raise place.error(
                f"the header says `{key.value}` twice", line=line, hint="Put both together, or leave one out."
            )
        keys.add(key.value)
        _check_keys(value, place, seen)


@functools.cache
def _loader() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    kinds = (
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", r"-?(?:0|[1-9][0-9]*)", list("-0123456789")),
        ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", list("-0123456789")),
    )
    loader: Any = type("Loader", (base,), {"yaml_implicit_resolvers": {}})
    for name, pattern, first in kinds:
        loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(f"(?:{pattern})$"), first)
    # As JSON has it: the constructor of YAML 1.1 does not know 1e3 without a dot.
    loader.add_constructor("tag:yaml.org,2002:float", lambda made, node: float(made.construct_scalar(node)))
    return loader
