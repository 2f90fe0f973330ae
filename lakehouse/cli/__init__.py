"""The command line. Each command is a thin call of the library; heavy packages load on use."""

import sys
from importlib import import_module
from typing import Any

import click

# command -> (module, what it does). The texts are here so that `--help` imports no command.
COMMANDS = {
    "init": ("setup", "Make a project of one's own in a folder."),
    "ingest": ("ingest", "Scrape sources and publish each run as one load."),
    "import": ("imports", "Bring a scraped history in: from git, or a folder of dated files."),
    "query": ("query", "Ask the lake in SQL, now or as of any moment."),
    "diff": ("changes", "Show what changed in a table between two moments."),
    "history": ("changes", "Tell the life of one row, value by value."),
    "build": ("build", "Build the models that are out of date, test them, publish them as one."),
    "test": ("build", "Hold the models as they are against their tests."),
    "log": ("show", "List the loads of the sources."),
    "tables": ("show", "List the tables."),
    "show": ("show", "Show one table: columns, rows, files, loads."),
    "schema": ("schema", "Say when each column of a table came, went and changed its type."),
    "lineage": ("lineage", "Show what models are made of: tables, loads and columns."),
    "tag": ("tag", "Name a moment of the whole lake; look at such names, delete them."),
    "revert": ("revert", "Restore an earlier state of a source by a new load; nothing is erased."),
    "export": ("export", "Make tables readable as Delta Lake or Iceberg tables, without copying."),
    "refresh": ("upkeep", "Write lakehouse.duckdb anew from the logs."),
    "verify": ("upkeep", "Check every digest, every chain and the order of writing."),
    "pack": ("keeping", "Make few large files of many small ones; content never changes."),
    "prune": ("keeping", "Delete the small files that verified packs stand for."),
    "expire": ("keeping", "Let old states go, by an explicit policy."),
    "sync": ("sync", "Send what the mirrors lack; say how far they are; get what they have more."),
    "restore": ("restore", "Get a lake back from a mirror, now or as of any moment, every byte verified."),
    "quarantine": ("quarantine", "Look at loads that a gate refused; approve or discard them."),
    "docs": ("docs", "Make a catalogue of the lake and its models: one page, no server."),
    "doctor": ("upkeep", "Say what is installed, what is reachable, and what to do."),
}


class _Lazy(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"lakehouse.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lakehouse")
@click.option("--lake", metavar="PATH|URL", help="The lake to use; by default the project's own.")
@click.pass_context
def cli(ctx: click.Context, lake: str | None) -> None:
    """A local-first lakehouse for scraped data: every change kept, time travel in SQL.

    Exit codes: 0 done; 2 wrong input; 3 refused by a gate; 4 the lake is damaged; 5 somebody else
    is writing; 6 something has to be installed, started or freed; 7 a scraper or a model failed; 1 anything else.
    """
    ctx.obj = lake


def main(argv: list[str] | None = None) -> None:
    """Run the command line; ends the process with a documented exit code."""
    from lakehouse.cli.terminal import guard
    from lakehouse.errors import LakehouseError

    guard()
    try:
        code = cli.main(args=argv, standalone_mode=False)
    except click.exceptions.Abort:
        _say("interrupted; what was published stays, run the command again to go on")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except LakehouseError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, and so do we
        sys.exit(141)
    if isinstance(code, int) and code:  # what a command gave to `ctx.exit`
        sys.exit(code)


def _say(text: str) -> None:
    click.echo(click.style("error: ", fg="red", bold=True) + text, err=True)


def lake_option(function: Any) -> Any:
    """`--lake` after the command too, where people type it."""

    def keep(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.obj = value

    return click.option(
        "--lake", metavar="PATH|URL", expose_value=False, callback=keep, help="The lake to use."
    )(function)
