"""Starting an outbox: what it says, and how long it is waited for. Putting is seen where responses and jobs wait."""

from __future__ import annotations

import anyio
import pytest

from callback_middleware import MemoryOutbox
from callback_middleware.errors import ConfigurationError
from callback_middleware.putting import start


class Silent(MemoryOutbox):
    """An outbox that never says whether it can be used."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = False

    async def start(self) -> None:
        self.asked = True
        await anyio.sleep_forever()


async def test_an_outbox_that_does_not_answer_is_not_waited_for_without_end() -> None:
    outbox = Silent()
    with anyio.fail_after(30):
        await start(outbox, seconds=0.01)
    assert outbox.asked


class Outdated(MemoryOutbox):
    async def start(self) -> None:
        raise ConfigurationError("its schema is old")


async def test_what_will_not_mend_by_itself_is_raised() -> None:
    with pytest.raises(ConfigurationError, match="its schema is old"):
        await start(Outdated())
