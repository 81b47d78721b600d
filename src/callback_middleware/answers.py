"""What the middleware answers itself, where the application's own answer would be a promise that is not kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, TypeAlias

from callback_middleware.asgi import Send
from callback_middleware.errors import OutboxError, SubscriptionExists, TransactionOpen

Failure: TypeAlias = OutboxError | SubscriptionExists | TransactionOpen
"""Why callbacks are not stored, or may not be."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole response of our own; nothing of the application's is in it.

    Attributes:
        status: Its status code.
        detail: What a client is told. It quotes nothing: whose key it was, and what the outbox said, is in the log.
        retry_after: Seconds; None where the handler has done its work: a client that tried again would have it done
            twice.
    """

    status: int
    detail: str
    retry_after: int | None = None

    async def send(self, send: Send) -> None:
        """Send it as the response to a request that has none yet."""
        content = json.dumps({"detail": self.detail}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        if self.retry_after is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


DOWN: Final = Answer(
    503, "The request was not carried out, because its callbacks cannot be stored at the moment.", retry_after=5
)
"""To a request that documents callbacks, while the outbox is known to be down: its handler never runs."""

_NOT_STORED: Final = Answer(503, "The request was carried out, but its callback could not be stored.")

_TAKEN: Final = Answer(
    409, "The request was carried out, but its callback was not stored: somebody else has subscribed the same key."
)


_STILL_OPEN: Final = Answer(
    500, "The request was carried out, but nobody can say yet whether what it did, and its callback, will be kept."
)


def answer_to(error: Failure) -> Answer:
    """What a client gets instead of a response whose callbacks were not stored, or may not be."""
    if isinstance(error, TransactionOpen):
        return _STILL_OPEN
    return _TAKEN if isinstance(error, SubscriptionExists) else _NOT_STORED
