from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from callback_middleware.outbox.rotation import Rotation

START = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abc"), st.integers(0, 6)),
        st.tuples(st.just("discard"), st.integers(0, 30), st.none()),
        st.tuples(st.just("take"), st.integers(1, 5), st.integers(1, 3)),
        st.tuples(st.just("pass"), st.integers(0, 3), st.none()),
    ),
    max_size=60,
)


def up_to(most: int) -> Callable[[str, int], int]:
    """So many of each origin."""
    return lambda _, busy: most - busy


@dataclass
class Model:
    """The same promise, kept by looking at everything every time."""

    items: dict[UUID, tuple[str, datetime]] = field(default_factory=dict)

    def due(self, now: datetime) -> Counter[str]:
        return Counter(origin for origin, due in self.items.values() if due <= now)

    def first_due_of(self, origin: str) -> datetime:
        return min(due for one, due in self.items.values() if one == origin)


@settings(max_examples=400)
@given(steps)
def test_it_hands_out_what_looking_at_everything_would(script: list[tuple[str, int | str, int | None]]) -> None:
    rotation, model, now = Rotation(), Model(), START
    for number, (step, first, second) in enumerate(script, 1):
        if step == "add":
            assert isinstance(first, str)
            item, due = UUID(int=number), now + (second or 0) * SECOND
            nothing_due = not model.due(now)[first]
            news = rotation.add(item, first, due, now)
            assert news <= (due <= now)
            assert news or due > now or not nothing_due, "nobody would hear of it"
            model.items[item] = (first, due)
        elif step == "discard":
            item = UUID(int=int(first))
            origin, _ = model.items.pop(item, ("a", now))
            rotation.discard(item, origin, now)
        elif step == "pass":
            now += int(first) * SECOND
        else:
            limit, per_origin = int(first), second or 1
            due_now = model.due(now)
            taken = rotation.take(limit, now, room=up_to(per_origin), busy=Counter())
            assert len(taken) == min(limit, sum(min(count, per_origin) for count in due_now.values()))
            for item in taken:
                origin, due = model.items[item]
                assert due == model.first_due_of(origin) <= now
                del model.items[item]
        assert len(rotation) == len(model.items)
        for origin, due in model.items.values():
            if due > now and not model.due(now)[origin]:
                next_due = rotation.next_due()
                assert next_due is not None
                assert next_due <= due, "it would sleep through it"


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40), st.integers(1, 3))
def test_between_two_turns_of_one_origin_every_other_that_is_due_has_one(origins: list[str], limit: int) -> None:
    rotation = Rotation()
    for number, origin in enumerate(origins):
        rotation.add(UUID(int=number), origin, START, START)
    waiting = Counter(origins)

    last_turn: dict[str, int] = {}
    for turn in range(len(origins)):
        (item,) = rotation.take(1, START, room=up_to(1), busy=Counter())
        origin = origins[item.int]
        since = last_turn.get(origin, -1)
        assert all(last_turn.get(other, -1) >= since for other in waiting), f"{origin} jumped the queue"
        last_turn[origin] = turn
        waiting[origin] -= 1
        if not waiting[origin]:
            del waiting[origin]

    assert rotation.take(limit, START, room=up_to(9), busy=Counter()) == []


def test_who_is_left_out_keeps_its_turn() -> None:
    rotation = Rotation()
    for number, origin in enumerate("ab"):
        rotation.add(UUID(int=number), origin, START, START)
    rotation.add(UUID(int=2), "b", START, START)

    busy = rotation.take(1, START, room=up_to(1), busy=Counter("a"))
    free = rotation.take(1, START, room=up_to(1), busy=Counter())

    assert (busy, free) == ([UUID(int=1)], [UUID(int=0)])


def test_who_is_left_out_keeps_its_turn_among_those_left_out() -> None:
    rotation = Rotation()
    for number, origin in enumerate("abc"):
        rotation.add(UUID(int=number), origin, START, START)

    rotation.take(3, START, room=up_to(1), busy=Counter("abc"))

    assert rotation.take(3, START, room=up_to(1), busy=Counter()) == [UUID(int=number) for number in range(3)]


def test_an_origin_with_nothing_left_is_forgotten() -> None:
    rotation = Rotation()
    for number in range(100):
        rotation.add(UUID(int=number), f"origin {number}", START + SECOND, START)

    rotation.take(100, START + SECOND, room=up_to(1), busy=Counter())

    assert (len(rotation), len(rotation._queues), len(rotation._ring), len(rotation._parked)) == (0, 0, 0, 0)


def test_looks_at_one_origin_do_not_pile_up() -> None:
    """A retry waits for a day while an origin's other deliveries come, fail and go."""
    rotation, now = Rotation(), START
    rotation.add(UUID(int=0), "a", START + timedelta(days=1), START)

    for number in range(1, 500):
        rotation.add(UUID(int=number), "a", now + SECOND, now)
        now += SECOND
        rotation.take(1, now, room=up_to(1), busy=Counter())

    assert len(rotation._parked) <= 2


def test_what_was_taken_out_does_not_pile_up() -> None:
    """A reminder for next month is put, and cancelled when it is not needed: over and over."""
    rotation, month = Rotation(), timedelta(days=30)
    rotation.add(UUID(int=0), "b", START + month, START)

    for number in range(1, 1000, 2):
        for item, origin in ((number, "a"), (number + 1, "b")):
            due = START + month + number * SECOND
            rotation.add(UUID(int=item), origin, due, START)
            rotation.discard(UUID(int=item), origin, START)

    assert len(rotation._parked) == 2
    assert sum(len(queue.heap) for queue in rotation._queues.values()) <= 2
    assert rotation.take(9, START + month + SECOND, room=up_to(9), busy=Counter()) == [UUID(int=0)]
    assert len(rotation._queues) == len(rotation._parked) == 0


def test_an_origin_whose_items_were_taken_out_is_woken_for_a_later_one() -> None:
    rotation = Rotation()
    rotation.add(UUID(int=1), "a", START + SECOND, START)
    rotation.discard(UUID(int=1), "a", START)
    rotation.add(UUID(int=2), "a", START + 2 * SECOND, START)

    assert rotation.take(9, START + SECOND, room=up_to(9), busy=Counter()) == []
    assert rotation.take(9, START + 2 * SECOND, room=up_to(9), busy=Counter()) == [UUID(int=2)]
