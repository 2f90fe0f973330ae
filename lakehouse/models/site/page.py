"""The page: one HTML file that holds the catalogue, its looks and its code, and asks nobody for anything.

Names and descriptions come from scraped data and may be hostile. They reach the browser as JSON only, and the
code makes text nodes of them; the policy in the head forbids any other script, any request and any markup
made from text.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

TITLE = "Lake catalogue"
MARK = '<meta name="generator" content="lakehouse docs">'
_SCRIPTS = (
    "dom", "lake", "time", "links", "sql", "chart", "layout", "start", "entry", "move", "graph", "search", "main",
)  # fmt: skip
# What would end the element, or a line, where the JSON stands.
_UNSAFE = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def render(catalogue: Mapping[str, Any]) -> str:
    """The HTML of a catalogue.

    Args:
        catalogue: What `collect` gives.
    """
    style = _asset("site.css")
    layout = _asset("vendor/dagre.min.js").partition("//# sourceMappingURL")[0]
    licence = _asset("vendor/dagre.LICENSE")
    scripts = (f"/*! dagre\n{licence}*/\n{layout}", _code())
    parts = {
        "MARK": MARK,
        "POLICY": _policy(style, scripts),
        "TITLE": html.escape(catalogue["title"] or TITLE),
        "STYLE": style,
        "CATALOGUE": embedded(catalogue),
        "LAYOUT": scripts[0],
        "CODE": scripts[1],
    }
    out = []
    for piece in _asset("index.html").split("{{"):  # in one pass: what is put in is not looked through
        name, end, rest = piece.partition("}}")
        out.append(parts[name] + rest if end else piece)
    return "".join(out)


def embedded(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it can end the element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_UNSAFE)


def _code() -> str:
    body = "\n".join(_asset(f"js/{name}.js") for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{body}\n}})();\n'


def _policy(style: str, scripts: tuple[str, ...]) -> str:
    allowed = {
        "default-src": "'none'",
        "script-src": " ".join(_hash(script) for script in scripts),
        "style-src": _hash(style),
        "img-src": "data:",  # the empty icon, so that no browser asks for one
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", *name.split("/")).read_text(encoding="utf-8")
