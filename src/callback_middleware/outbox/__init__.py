"""Engines of the outbox port, one optional dependency per module."""
