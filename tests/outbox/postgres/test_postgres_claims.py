from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from postgres_setting import PostgresSetting
from watching import until_idle

from callback_middleware.delivery import Claim
from callback_middleware.errors import OutboxUncertain
from callback_middleware.outbox.postgres import PostgresOutbox
from callback_middleware.testing import VirtualClock
from callback_middleware.testing.contracts.setting import OutboxSetting, ids


class TestClaims(PostgresSetting, OutboxSetting):
    async def test_what_was_leased_and_could_not_be_read_is_given_back_and_suspected_of_nothing(
        self, outbox: PostgresOutbox, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deliveries = [self.delivery(clock) for _ in range(2)]
        await self.put(outbox, *deliveries)

        async def unreadable(*_: Any) -> Sequence[Claim]:
            raise OutboxUncertain("the connection was cut off")

        with monkeypatch.context() as patch:
            patch.setattr(outbox._claims, "read", unreadable)
            with pytest.raises(OutboxUncertain):
                await self.claim(outbox)
        await until_idle()

        # Both at once, before their leases have ended: a suspect would be alone, and later.
        assert ids(await self.claim(outbox)) == {one.id for one in deliveries}
