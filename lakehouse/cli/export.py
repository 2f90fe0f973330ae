"""`lakehouse export`: tables for other engines, as Delta Lake or Iceberg tables over the same files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import many, open_lake, print_json

if TYPE_CHECKING:
    from lakehouse.export.files import Exported

_NEXT = {
    "delta": (
        'deltalake  DeltaTable("{0}").to_pyarrow_table()',
        'polars     scan_delta("{0}")',
        'Spark      spark.read.format("delta").load("{0}")',
    ),
    "iceberg": (
        'pyiceberg  StaticTable.from_metadata("{0}").scan()',
        'polars     scan_iceberg("{0}/metadata/v{1}.metadata.json")',
        'Spark      spark.read.format("iceberg").load("{0}")',
    ),
}


@click.command("export")
@click.argument("format_", metavar="delta|iceberg", type=click.Choice(["delta", "iceberg"]))
@click.argument("tables", metavar="TABLE...", nargs=-1, required=True)
@click.option("--as-of", metavar="WHEN", help="A load number, an instant (UTC), a date or a tag; else now.")
@click.option("-o", "--out", metavar="DIR", help="Below it goes SOURCE/TABLE; else exports/ beside the lake.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lake_option
@click.pass_context
def export_command(
    ctx: click.Context,
    format_: str,
    tables: tuple[str, ...],
    as_of: str | None,
    out: str | None,
    as_json: bool,
) -> None:
    """Make TABLEs (SOURCE.TABLE) readable as Delta Lake or Iceberg tables, as of any moment.

    Parts of the lake are linked, not copied, wherever they hold the state as they lie. Another moment becomes
    a new version of the same table; where nothing changed, nothing is written.
    """
    lake = open_lake(ctx)
    done = []
    for table in tables:
        if format_ == "delta":
            from lakehouse.export.delta import export_delta as export
        else:
            from lakehouse.export.iceberg import export_iceberg as export
        done.append(export(lake, table, as_of=as_of, out=out))
        if not as_json:
            _tell(done[-1])
    if as_json:
        print_json([_json(one) for one in done])
        return
    click.echo("Read it, for example:")
    shown = _shown(done[-1].location)
    for line in _NEXT[format_]:
        click.echo(f"  {line.format(shown, done[-1].version)}")


def _tell(done: "Exported") -> None:
    found = done.snapshot
    linked = len(found.files) - done.written
    files = f"{many(len(found.files), 'file')} ({linked} of the lake, {done.written} written)"
    what = f"version {done.version}" if done.changed else f"unchanged, version {done.version}"
    click.echo(
        f"{found.table}: load {found.seq}, {many(found.rows, 'row')}, {files} -> {_shown(done.location)}, {what}"
    )
    if done.as_text:
        click.echo(f"  as text: {', '.join(done.as_text)}")
    if done.elsewhere:
        click.echo(
            f"  {many(done.elsewhere, 'file')} could not be linked and stay where they lie: after"
            " `lakehouse prune` export again"
        )


def _shown(location: str) -> str:
    """A place as people type it: relative where it is below the current folder."""
    if "://" in location:
        return location
    path, here = Path(location), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else location


def _json(done: "Exported") -> dict[str, Any]:
    found = done.snapshot
    return {
        "table": found.table,
        "location": done.location,
        "version": done.version,
        "changed": done.changed,
        "seq": found.seq,
        "digest": found.digest,
        "rows": found.rows,
        "files": len(found.files),
        "written": done.written,
        "elsewhere": done.elsewhere,
        "added": done.added,
        "removed": done.removed,
        "as_text": list(done.as_text),
    }
