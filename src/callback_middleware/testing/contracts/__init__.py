"""What every outbox promises, verb by verb. :class:`callback_middleware.testing.OutboxContract` is all of it."""
