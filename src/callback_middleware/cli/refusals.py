"""How a command says that it will not begin."""

from __future__ import annotations

import click


class Refused(click.ClickException):
    """What was asked for cannot be done as it was asked: one line that says what to do, and exit status 2."""

    exit_code = 2
