from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_setting import SETTING

from callback_middleware.delivery import Dead, Delivered, Delivery, Released, Retry, Settlement
from callback_middleware.destinations import Destination
from callback_middleware.outbox.sqlite import changes, claims, reading
from callback_middleware.outbox.sqlite.ground import Ground
from callback_middleware.outbox.sqlite.puts import put_all
from callback_middleware.outbox.sqlite.reading import read_counts, read_delivery, select
from callback_middleware.outbox.sqlite.settles import settle
from callback_middleware.outbox.sqlite.store import Store
from callback_middleware.ports import Batch
from callback_middleware.selection import Selection
from callback_middleware.states import State
from callback_middleware.testing import VirtualClock

MINUTE: Final = timedelta(minutes=1)

# What databases, JSON and patterns have meanings for; letters that have a lower case in one place and none in another.
AWKWARD: Final = [
    "a",
    "B",
    "k",
    "I",
    " ",
    "%",
    "_",
    "*",
    "?",
    "'",
    '"',
    "\\",
    "\n",
    "\0",
    "ä",
    "Ä",
    "K",
    "İ",
    "ß",
    "é",
    "😀",
]

words: Final = st.text(st.sampled_from(AWKWARD), max_size=4)
hosts: Final = st.sampled_from(
    ["a.example", "aa.example", "[::1]", "[2001:db8::1]", "10.0.0.1", "xn--bcher-kva.example"]
)
paths: Final = st.lists(st.sampled_from(["a", "B", "%25", "%5F", "_", "~", "k"]), max_size=4).map("".join)


@dataclass(frozen=True)
class Fate:
    """What becomes of a delivery before operators look."""

    host: str
    path: str
    operation: str
    callback: str
    tags: dict[str, str]
    reason: str
    minute: int
    state: State
    replayed: bool


fates: Final = st.builds(
    Fate,
    host=hosts,
    path=paths,
    operation=words,
    callback=st.sampled_from(["event", "Event", "other"]),
    tags=st.dictionaries(words, words, max_size=2),
    reason=words,
    minute=st.integers(0, 3),
    state=st.sampled_from(State),
    replayed=st.booleans(),
)

minutes: Final = st.integers(0, 3).map(lambda minute: VirtualClock().now() + minute * MINUTE)


@st.composite
def selections(draw: st.DrawFn, everything: list[Delivery]) -> Selection:
    """One that looks for something that is there, or nearly."""
    texts = [text for one in everything for text in (one.url, one.operation, one.reason, *one.tags.values())]
    some = words | st.sampled_from(["EXAMPLE", "post", "://", "tenant"])
    if texts:
        cut = st.tuples(st.sampled_from(texts), st.integers(0, 3), st.integers(1, 5), st.booleans())
        some |= cut.map(lambda drawn: drawn[0][drawn[1] :][: drawn[2]].swapcase() if drawn[3] else drawn[0][drawn[1] :])
    looked_for: dict[str, st.SearchStrategy[Any]] = {
        "states": st.frozensets(st.sampled_from(State), max_size=3),
        "callback": st.sampled_from(["event", "Event", "nobody's"]),
        "host": hosts.map(lambda host: host.strip("[]")) | st.just("example"),
        "since": minutes,
        "until": minutes,
        "text": some,
    }
    # Of all together nothing is left, mostly.
    chosen = draw(st.frozensets(st.sampled_from(sorted(looked_for)), max_size=2) | st.just(frozenset(looked_for)))
    return Selection(**{name: draw(looked_for[name]) for name in sorted(chosen)})


class World:
    """A file with deliveries of every fate."""

    def __init__(self, store: Store, clock: VirtualClock, chosen: list[Fate]) -> None:
        self.store = store
        self.clock = clock
        self.ids = [self.make(fate) for fate in chosen]

    def make(self, fate: Fate) -> UUID:
        store, now = self.store, self.clock.now() + fate.minute * MINUTE
        to = Destination.parse(f"https://{fate.host}/{fate.path}")
        made = SETTING.delivery(
            self.clock,
            url=to.url,
            origin=to.origin,
            operation=fate.operation,
            callback=fate.callback,
            tags=fate.tags,
            created_at=now,
            due_at=self.clock.now(),
        )
        put_all(store, [Batch([made])])
        self.reach(fate)
        if fate.replayed and read_delivery(store.connection, made.id, store.policy).state.terminal:
            changes.replay(store, made.id)
            self.reach(replace(fate, reason=fate.reason + "again"))
        return made.id

    def reach(self, fate: Fate) -> None:
        """What is due is this one alone: the others are parked, leased or over."""
        store = self.store
        (one,) = claims.claim(store, 1, timedelta(days=1), 10**6, {}).claims
        attempt = SETTING.attempt(one, self.clock.now(), 500)
        verdict: Retry | Dead | Delivered | Released = Released(timedelta(days=1))
        match fate.state:
            case State.SENDING:
                return
            case State.PENDING:
                verdict = Retry(timedelta(days=1), fate.reason)
            case State.DELIVERED:
                verdict = Delivered()
            case State.DEAD:
                verdict = Dead(fate.reason)
            case State.CANCELLED:
                verdict = Retry(timedelta(days=1), fate.reason)
        settle(store, [Settlement(one.fence, verdict, attempt)])
        if fate.state is State.CANCELLED:
            changes.cancel(store, one.fence.delivery)

    def everything(self) -> list[Delivery]:
        """As each says of itself, the newest first."""
        found = [read_delivery(self.store.connection, one, self.store.policy) for one in self.ids]
        return sorted(found, key=lambda delivery: delivery.id, reverse=True)


@given(st.lists(fates, max_size=10), st.integers(1, 5), st.sampled_from([0, 2000]), st.data())
@settings(max_examples=80)
def test_a_search_finds_what_the_selection_matches(
    tmp_path_factory: pytest.TempPathFactory, chosen: list[Fate], at_once: int, few: int, data: st.DataObject
) -> None:
    clock = VirtualClock()
    path = tmp_path_factory.mktemp("search") / "callbacks.db"
    with pytest.MonkeyPatch.context() as patch, closing(Store(path, Ground.of(clock))) as store:
        everything = World(store, clock, chosen).everything()
        patch.setattr(reading, "FEW", few)
        for selection in data.draw(st.lists(selections(everything), min_size=1, max_size=8)):
            found = list(select(store.connection, selection, None, store.policy, at_once=at_once))
            assert found == [one for one in everything if selection.matches(one)]
            for after in (one.id for one in everything):
                rest = list(select(store.connection, selection, after, store.policy, at_once=at_once))
                assert rest == [one for one in everything if selection.matches(one) and one.id < after]
        counts = read_counts(store.connection)
        assert counts == {state: sum(one.state is state for one in everything) for state in State}
