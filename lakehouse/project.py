"""The project: where the lake, the scrapers and the settings are, found upwards from a folder.

A project is a folder whose `pyproject.toml` has a `[tool.lakehouse]` table. All commands work from
anywhere inside it.
"""

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lakehouse.core.gates import Gates
from lakehouse.errors import NoProjectError, UserError

CONFIG = "pyproject.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project and its settings.

    Attributes:
        root: Its folder.
        lake: Path or URL of its lake; a relative path is below the root.
        gates: Limits for all sources.
        source_gates: Limits that differ, by source.
        retention: What is kept of the past, for all sources; see `lakehouse.retention`.
        source_retention: Policies that differ, by source.
        openlineage: Where builds are told to; see `lakehouse.models.openlineage`.
        mirrors: Settings of each mirror, by name; `sync.settings` reads them.
    """

    root: Path
    lake: str
    gates: Gates = field(default_factory=Gates)
    source_gates: dict[str, Gates] = field(default_factory=dict)
    retention: str = "keep all"
    source_retention: dict[str, str] = field(default_factory=dict)
    openlineage: dict[str, Any] = field(default_factory=dict)
    mirrors: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where the lake is: an absolute path, or a URL."""
        return self.lake if "://" in self.lake else str(self.root / self.lake)

    @property
    def sources(self) -> Path:
        """The folder of scrapers, one a file."""
        return self.root / "ingest" / "sources"

    @property
    def work(self) -> Path:
        """Working directories of pipelines; may be deleted at any time."""
        return self.root / ".dlt-work"

    def gates_of(self, source: str) -> Gates:
        """The limits that a source's loads are held to."""
        return self.source_gates.get(source, self.gates)

    def retention_of(self, source: str) -> str:
        """The policy by which `lakehouse expire` lets old states of a source go."""
        return self.source_retention.get(source, self.retention)


def find_project(start: Path | None = None) -> Project:
    """The project that a folder lies in.

    Args:
        start: Where to look from; the current folder by default.

    Raises:
        NoProjectError: Neither the folder nor one above it is a project.
        UserError: The settings are wrong.
    """
    at = (start or Path.cwd()).resolve()
    for folder in (at, *at.parents):
        settings = _settings(folder / CONFIG)
        if settings is not None:
            return _project(folder, settings)
    raise NoProjectError(
        f"{at}: no lakehouse project here or above (no {CONFIG} with a [tool.lakehouse] table)",
        hint="Make one with `lakehouse init DIR`, or name a lake with --lake PATH|URL.",
    )


def _settings(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_bytes()
    except OSError:
        return None
    try:
        tool = tomllib.loads(text.decode()).get("tool", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid TOML ({error})", hint="Mend that line.") from error
    found = tool.get("lakehouse")
    return found if isinstance(found, dict) else None


def _project(root: Path, settings: dict[str, Any]) -> Project:
    known = {"lake", "gates", "mirrors", "openlineage", "retention", "sources"}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise UserError(
            f"{root / CONFIG}: [tool.lakehouse] has the unknown setting {unknown[0]!r}",
            hint=f"Known settings: {', '.join(sorted(known))}.",
        )
    general = settings.get("gates", {})
    sources = settings.get("sources", {})
    for name, about in sources.items():
        if not isinstance(about, dict) or set(about) - {"gates", "retention"}:
            raise UserError(
                f"{root / CONFIG}: [tool.lakehouse.sources.{name}] has a setting other than gates and retention",
                hint=f'Write [tool.lakehouse.sources.{name}.gates], or retention = "keep all".',
            )
    return Project(
        root=root,
        lake=str(settings.get("lake", "lake")),
        gates=_gates(root, "gates", general),
        source_gates={
            name: _gates(root, f"sources.{name}.gates", general | about["gates"])
            for name, about in sources.items()
            if "gates" in about
        },
        retention=str(settings.get("retention", "keep all")),
        openlineage=dict(settings.get("openlineage", {})),
        mirrors=_mirrors(root, settings.get("mirrors", {})),
        source_retention={n: str(about["retention"]) for n, about in sources.items() if "retention" in about},
    )


def _mirrors(root: Path, values: object) -> dict[str, dict[str, Any]]:
    """Their settings as they are written: what a variable holds is read when a mirror is used."""
    if isinstance(values, dict) and all(isinstance(about, dict) for about in values.values()):
        return values
    raise UserError(
        f"{root / CONFIG}: [tool.lakehouse.mirrors] is not a table of mirrors",
        hint='Write:\n  [tool.lakehouse.mirrors.bucket]\n  url = "gs://my-bucket/lake"',
    )


def _gates(root: Path, where: str, values: dict[str, Any]) -> Gates:
    known = {f.name for f in fields(Gates)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UserError(
            f"{root / CONFIG}: [tool.lakehouse.{where}] has the unknown gate {unknown[0]!r}",
            hint=f"Known gates: {', '.join(sorted(known))}.",
        )
    return Gates(**values)
