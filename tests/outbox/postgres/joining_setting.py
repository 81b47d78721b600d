"""What the tests of transactions of the user's start from: a database with a table of theirs, and a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import anyio
import pytest
from driving import DRIVERS, Mine
from postgres_setting import PostgresSetting

from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.outbox.postgres.migrating import migrate
from callback_middleware.ports import Batch
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import OutboxSetting
from postgres_server import DatabaseServer

INVOICE: Final = "INSERT INTO public.invoice VALUES ('7')"

REFERENCE: Final = "INSERT INTO public.invoice VALUES ('7', 'of nobody')"
"""An invoice that cannot be committed."""

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS public.invoice (
  id text PRIMARY KEY, replaces text REFERENCES public.invoice DEFERRABLE INITIALLY DEFERRED
);
DELETE FROM public.invoice
"""


@pytest.fixture(scope="session")
def elsewhere(postgres_server: DatabaseServer) -> str:
    """Another database with an outbox of the same name."""
    url = postgres_server.create_database()
    anyio.run(migrate, url)
    return url


class JoiningSetting(PostgresSetting, OutboxSetting):
    """Fixtures, and short words. A test without a ``driver`` of its own is made with every one."""

    @pytest.fixture(params=DRIVERS)
    def driver(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def url(self, migrated: str, postgres_server: DatabaseServer) -> str:
        """The database, with a table of the user's in it."""
        postgres_server.execute(_TABLE, database=migrated)
        return migrated

    @pytest.fixture
    async def mine(self, url: str, driver: str) -> AsyncIterator[Mine]:
        """The user's connection, with a transaction open."""
        async with DRIVERS[driver](url) as mine:
            await mine.begin()
            yield mine

    def batch(self, clock: VirtualClock, **attributes: Any) -> Batch:
        return Batch([self.delivery(clock, **attributes)])

    async def total(self, outbox: PostgresOutbox) -> int:
        return sum((await outbox.counts()).values())

    def invoices(self, server: DatabaseServer, url: str) -> int:
        ((count,),) = server.execute("SELECT count(*) FROM public.invoice", database=url)
        return int(count)
