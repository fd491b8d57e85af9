"""A group of verbs, each imported only when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class Verbs(click.Group):
    """`modules`: verb -> (module with a click command called `command`, or module:name; one line of help).

    `--help` imports none of them.
    """

    def __init__(self, *arguments: Any, modules: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *self.modules]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.modules:
            return super().get_command(ctx, cmd_name)
        module, _, name = self.modules[cmd_name][0].partition(":")
        return getattr(importlib.import_module(module), name or "command")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [(verb, command.get_short_help_str(100)) for verb, command in self.commands.items()]
        with formatter.section("Verbs"):
            formatter.write_dl(own + [(verb, help) for verb, (_, help) in self.modules.items()])
