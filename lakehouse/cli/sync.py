"""`lakehouse sync`: send what the mirrors of a project lack, say how far they are, get what they have more."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli import lake_option
from lakehouse.cli.context import many, open_lake, print_json, print_table, project, size
from lakehouse.errors import LakehouseError, UserError

if TYPE_CHECKING:
    from lakehouse.lake import Lake
    from lakehouse.project import Project
    from sync.settings import Mirror

_WORST = (4, 1, 2, 6, 5)  # exit codes: damage needs somebody first; who only lost a race may try again


class _Sync(click.Group):
    """A group whose own arguments are names of mirrors, so that `lakehouse sync bucket` needs no other word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_interspersed_args = False
        _, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
        ctx.allow_interspersed_args = not rest or rest[0] not in self.commands
        return click.Command.parse_args(self, ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if not ctx.args or ctx.args[0] not in self.commands:
            ctx.params["mirrors"] = tuple(ctx.args)
            return click.Command.invoke(self, ctx)
        name, *args = ctx.args
        for param in self.params:
            if param.name in ctx.params and ctx.params[param.name] not in (None, False, ()):
                raise click.UsageError(f"{param.opts[0]} is no option of `lakehouse sync {name}`", ctx)
        with self.commands[name].make_context(name, args, parent=ctx) as sub:
            return sub.command.invoke(sub)
