"""The database of these tests, and how it is emptied."""

import pytest

pytest.register_assert_rewrite("callback_middleware.testing.contracts")

from joining_setting import elsewhere  # noqa: E402 - what is rewritten must be registered before
from postgres_setting import database, fresh, migrated, pattern  # noqa: E402 - likewise

__all__ = ["database", "elsewhere", "fresh", "migrated", "pattern"]
