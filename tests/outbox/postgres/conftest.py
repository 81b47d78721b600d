"""The database of these tests, and how it is emptied."""

import pytest

pytest.register_assert_rewrite("callback_middleware.testing.contracts")

from postgres_setting import database, fresh, migrated, pattern  # noqa: E402 - what is rewritten must be registered before

__all__ = ["database", "fresh", "migrated", "pattern"]
