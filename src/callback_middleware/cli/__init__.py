"""The command ``callback-middleware``. Needs the extra ``cli``."""

from __future__ import annotations

import click

from callback_middleware.cli.migrate import migrate
from callback_middleware.cli.worker import work


@click.group()
def command() -> None:
    """Look after the callbacks that an application owes."""


command.add_command(work)
command.add_command(migrate)
