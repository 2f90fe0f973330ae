"""`lakehouse init`: a project of one's own."""

import re
from pathlib import Path

import click

from lakehouse.errors import UserError

_CONFIG = """\
[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["lakehouse"]

[tool.uv]
package = false
system-certs = true
{sources}
[tool.lakehouse]
lake = "lake"              # a folder, or a bucket: gs://my-bucket/lake

[tool.lakehouse.gates]
max_drop = 0.5             # a snapshot that loses more than half of its rows goes to quarantine

# [tool.lakehouse.sources.prices.gates]
# allow_empty = true       # limits of one source

# [tool.lakehouse.mirrors.bucket]
# url = "gs://my-bucket/lake"   # then: uv add 'lakehouse[gcs]'; lakehouse sync. s3://, az://, file://, postgresql:// too
"""

_IGNORE = """\
/lake/
/lake.set-aside/
/lakehouse.duckdb*
/docs-site/
/exports/
.dlt-work/
.venv/
__pycache__/
"""

_EXAMPLE = '''\
"""An example to copy: rename this file to NAME.py and the function below to NAME.

Source: what is scraped. URL: where. Licence: of the data. Cadence: how often it changes.
Then: lakehouse ingest NAME ; lakehouse query "select * from NAME.stations"
"""

import dlt
import httpx


@dlt.resource(write_disposition="replace", primary_key="id")
def stations(url: str = "https://example.org/stations.json"):
    """All stations, as one full snapshot: the lake keeps what appeared, changed and disappeared."""
    answer = httpx.get(url, timeout=30, follow_redirects=True)
    answer.raise_for_status()
    yield answer.json()


@dlt.source
def NAME():
    return stations
'''

_MODELS = """\
-- kind: table
-- key: [id]
-- grain: one station
-- description: An example to copy. Rename this file to what the model is called, edit it, then run lakehouse build.
-- columns:
--   id: as the network numbers them
-- tests:
--   - not_null: id
select id, name from NAME.stations
"""


@click.command("init")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
def init_command(folder: Path) -> None:
    """Make a project of one's own in FOLDER: configuration, ingest/sources/, models/, .gitignore."""
    from lakehouse.lake import Lake
    from lakehouse.project import CONFIG, find_project

    config = folder / CONFIG
    if config.exists():
        raise UserError(
            f"{config}: already exists",
            hint='Add to it, to make this folder a project:\n  [tool.lakehouse]\n  lake = "lake"',
        )
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "lake"
    files = {
        config: _CONFIG.format(name=name, sources=_own_source()),
        folder / ".gitignore": _IGNORE,
        folder / "ingest" / "sources" / "_example.py": _EXAMPLE,
        folder / "models" / "_example.sql": _MODELS,
    }
    for path, content in files.items():
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    Lake.create(find_project(folder).place)
    click.echo(f"{folder.resolve()}: a new project with an empty lake")
    click.echo(
        f"Next: cd {folder}; copy ingest/sources/_example.py and edit it; then: uv run lakehouse ingest. "
        "A model is a SELECT in models/, as in models/_example.sql; then: uv run lakehouse build"
    )


def _own_source() -> str:
    """Where uv finds this package, if it was installed from a folder: a checkout, for example."""
    import json
    from importlib import metadata

    try:
        text = metadata.distribution("lakehouse").read_text("direct_url.json") or "{}"
    except metadata.PackageNotFoundError:
        return ""
    url = str(json.loads(text).get("url", ""))
    if not url.startswith("file://"):
        return ""
    return f'\n[tool.uv.sources]\nlakehouse = {{ path = "{url.removeprefix("file://")}", editable = true }}\n'
