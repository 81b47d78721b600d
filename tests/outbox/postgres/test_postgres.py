from __future__ import annotations

from postgres_setting import PostgresSetting

from callback_middleware.testing import OutboxContract


class TestPostgresOutbox(PostgresSetting, OutboxContract):
    """The contract of every outbox, on PostgreSQL."""
