"""How a command line is read where click's own way would mislead."""

from __future__ import annotations

import re

import click


class CommandWithNumbers(click.Command):
    """Takes -7 for an argument, and not for an option that it does not have: the command then says what is wrong with it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = any(re.fullmatch(r"-\.?\d.*", word) for word in args)
        return super().parse_args(ctx, args)
