"""The database of these tests, and how it is emptied."""

from postgres_setting import database, migrated

__all__ = ["database", "migrated"]
