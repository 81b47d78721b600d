"""What every test may rely on."""

from __future__ import annotations

import math
from collections.abc import Iterator

import anyio
import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

from callback_middleware import EgressPolicy, MemoryOutbox
from callback_middleware.senders import interfaces

pytest_plugins = ["postgres_server"]

# A slow machine is no bug: time is for benchmarks.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


MEMORY_OUTBOX = {name for name in vars(MemoryOutbox) if not name.startswith("__")}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Asynchronous tests run on both event loops; one that cannot overrides this fixture and says why."""
    return str(request.param)


@pytest.fixture(autouse=True, scope="session")
def own_addresses_are_known() -> None:
    """Read once, before any test: whichever asks first would have an attempt that waits for a thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interfaces, "REFRESH", math.inf)
        anyio.run(interfaces.refusing_own_addresses, EgressPolicy())


ASYNCPG_CONNECTS = {"_parse_connect_dsn_and_args", "_read_password_from_pgpass"}
"""Where asyncpg reads the user's own files."""


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    """A blocking call of ours inside a running event loop fails the test."""
    with blockbuster_ctx("callback_middleware") as blockbuster:
        # Its lock is held for moments, by whichever thread, and never while anybody waits for something.
        for acquire in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
            blockbuster.functions[acquire].can_block_in("callback_middleware/outbox/memory.py", MEMORY_OUTBOX)
            # Begun once: it waits until its thread runs.
            blockbuster.functions[acquire].can_block_in("callback_middleware/outbox/sqlite/writer.py", "__init__")
        # It asks the kernel which folder this is, and no disk.
        blockbuster.functions["os.path.abspath"].can_block_in(
            "callback_middleware/outbox/sqlite/__init__.py", "__init__"
        )
        # A connection of the user's is the user's to block with.
        for name, function in blockbuster.functions.items():
            if name.startswith(("sqlite3.", "os.", "io.")):
                function.can_block_in("callback_middleware/outbox/sqlite/__init__.py", "put_in_sync")
        # asyncpg looks for files with passwords and certificates whenever it connects.
        for name, function in blockbuster.functions.items():
            if name.startswith(("os.", "io.")):
                function.can_block_in("asyncpg/connect_utils.py", ASYNCPG_CONNECTS)
        yield blockbuster
