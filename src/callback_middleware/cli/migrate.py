"""``callback-middleware migrate``: an outbox' schema brought up to date, before what needs it is started."""

from __future__ import annotations

import os

import click

from callback_middleware.cli.applications import application
from callback_middleware.cli.outboxes import URLS, VARIABLE, masked, sqlite_path
from callback_middleware.cli.refusals import Refused
from callback_middleware.cli.schemas import Schema, schema_at, schema_of, script
from callback_middleware.errors import ConfigurationError, OutboxError


@click.command()
@click.argument("url", required=False)
@click.option("--app", metavar="APP", help="Take the outbox that this application mounts: module:attribute.")
@click.option("--factory", is_flag=True, help="APP is a function that makes the application.")
@click.option("--schema", metavar="NAME", help="The schema in a PostgreSQL database.  [default: callback_middleware]")
@click.option("--dry-run", is_flag=True, help="List the steps that are lacking, and exit with 1 if there are any.")
@click.option("--sql", is_flag=True, help="Print the SQL that makes a PostgreSQL schema, and connect to nothing.")
def migrate(url: str | None, *, app: str | None, factory: bool, schema: str | None, dry_run: bool, sql: bool) -> None:
    """Bring the schema of an outbox up to date.

    URL is postgresql://user@host/database or sqlite:path; without one it is what CALLBACK_OUTBOX says. A password in
    it stands in the list of processes; in the environment it does not.

    It may be run again, and while applications and workers use the outbox.
    """
    try:
        if sql:
            _print_sql(url, schema, dry_run=dry_run)
        else:
            _migrate(_chosen(url, app, schema, factory=factory), dry_run=dry_run)
    except ConfigurationError as error:
        raise Refused(masked(str(error))) from None
    except OutboxError as error:
        raise click.ClickException(masked(str(error))) from None


def _chosen(url: str | None, app: str | None, schema: str | None, *, factory: bool) -> Schema:
    """The schema that was named by one of three ways."""
    if app is not None:
        if url is not None:
            raise Refused("URL or --app: one of them says which outbox it is")
        _, middleware = application(app, factory=factory)
        return schema_of(middleware.outbox, schema)
    if factory:
        raise Refused("--factory says what --app is")
    url = url or os.environ.get(VARIABLE)
    if not url:
        raise Refused(f"which outbox? Give its URL ({URLS}), or --app module:attribute, or set {VARIABLE}")
    return schema_at(url, schema)


def _migrate(schema: Schema, *, dry_run: bool) -> None:
    steps = schema.pending() if dry_run else schema.migrate()
    for step in steps:
        click.echo(f"{'lacking' if dry_run else 'applied'}: {step}")
    if dry_run and steps:
        raise click.exceptions.Exit(1)
    click.echo(f"up to date: {schema}")


def _print_sql(url: str | None, schema: str | None, *, dry_run: bool) -> None:
    if dry_run:
        raise Refused("--sql or --dry-run: one prints every step, the other what a database lacks")
    if url is not None and sqlite_path(url) is not None:
        raise Refused("--sql is for PostgreSQL: an SQLite file is brought up to date by whoever opens it")
    click.echo(script(schema))
