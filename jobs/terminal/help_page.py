"""How the help of a command looks, and that a group without a command shows it.

What it decides: an argument stands in the usage line under its plain name, and who names no command is shown which
there are: on stderr with code 2, as for every other mistake, since no command has had a result. The page itself is
typer's.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from lstm_core.exit_codes import EXIT_USAGE

if TYPE_CHECKING:
    from typer._click import Context  # what typer's own signatures name; nothing of it is used

HELP = "Shows this help."


class HelpfulCommand(TyperCommand):
    """A command."""

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """The usage line behind the command's name, without typer's braces around what must be given."""
        return [piece.removeprefix("{").removesuffix("}") for piece in super().collect_usage_pieces(ctx)]

    def get_help_option(self, ctx: Context) -> TyperOption | None:
        """--help, said in the manner of the other options."""
        return _reworded(super().get_help_option(ctx))


class HelpfulGroup(TyperGroup):
    """The program, or a command with commands of its own."""

    def get_help_option(self, ctx: Context) -> TyperOption | None:
        """--help, said in the manner of the other options."""
        return _reworded(super().get_help_option(ctx))

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """As its base does; where nothing is given at all, shows the help and ends."""
        if args:
            return super().parse_args(ctx, args)
        with redirect_stdout(sys.stderr):
            typer.echo(ctx.get_help(), nl=False)
        raise typer.Exit(EXIT_USAGE)


def _reworded(option: TyperOption | None) -> TyperOption | None:
    if option is not None:
        option.help = HELP
    return option
