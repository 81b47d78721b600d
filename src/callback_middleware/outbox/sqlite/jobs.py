"""What the writer's thread is given to do, and whom it tells."""

from __future__ import annotations

from typing import Protocol

from callback_middleware.outbox.sqlite.store import Store


class Job(Protocol):
    """Something that the thread does."""

    def run(self, store: Store) -> None:
        """Do it. What it raises is its failure."""
        ...

    def done(self, error: BaseException | None) -> None:
        """It is over: tell whoever waits. In the writer's thread."""
        ...


class News(Protocol):
    """Who wants to know that something may be due."""

    def followed(self) -> bool:
        """Whether anybody has waited, and may again."""
        ...

    def awaited(self) -> bool:
        """Whether anybody waits."""
        ...

    def tell(self, due: int) -> None:
        """Something is due at this instant that was not before."""
        ...

    def tell_all(self) -> None:
        """Anything may have changed."""
        ...
