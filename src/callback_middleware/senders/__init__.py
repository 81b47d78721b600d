"""Implementations of the :class:`~callback_middleware.ports.Sender` port, one HTTP library each."""
