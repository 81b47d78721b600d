"""Who sees what happens in the database: triggers write every change of the queue down, in the order it was made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from postgres_server import DatabaseServer

WITNESS: Final = """
CREATE SCHEMA witness;
CREATE TABLE witness.seen (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
  what text NOT NULL, id uuid NOT NULL, origin_key bigint NOT NULL,
  was_ready boolean, was_leased boolean, was_due timestamptz, was_claims integer,
  ready boolean, leased boolean, suspect boolean, claims integer, fence bigint);
CREATE FUNCTION witness.see_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    INSERT INTO witness.seen (what, id, origin_key, fence) VALUES (TG_OP, OLD.id, OLD.origin_key, OLD.fence);
  ELSIF TG_OP = 'INSERT' THEN
    INSERT INTO witness.seen (what, id, origin_key, fence) VALUES (TG_OP, NEW.id, NEW.origin_key, NEW.fence);
  ELSE
    INSERT INTO witness.seen (what, id, origin_key, was_ready, was_leased, was_due, was_claims, ready, leased, suspect,
      claims, fence)
    VALUES (TG_OP, NEW.id, NEW.origin_key, OLD.ready, OLD.leased, OLD.due_at, OLD.claims, NEW.ready, NEW.leased,
      NEW.suspect, NEW.claims, NEW.fence);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER INSERT OR UPDATE OR DELETE ON callback_middleware.queue
  FOR EACH ROW EXECUTE FUNCTION witness.see_queue();
CREATE FUNCTION witness.see_asked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO witness.seen (what, id, origin_key) VALUES ('ASKED', NEW.asked, NEW.origin_key);
  RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER INSERT OR UPDATE OF asked ON callback_middleware.origin
  FOR EACH ROW WHEN (NEW.asked IS NOT NULL) EXECUTE FUNCTION witness.see_asked();
CREATE FUNCTION witness.see_forgotten() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- What leaves the default partition moves to one of a day.
  IF TG_TABLE_NAME <> 'delivery_default' AND EXISTS (SELECT FROM callback_middleware.queue WHERE id = OLD.id) THEN
    INSERT INTO witness.seen (what, id, origin_key) VALUES ('FORGOTTEN', OLD.id, OLD.origin_key);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER DELETE ON callback_middleware.delivery
  FOR EACH ROW EXECUTE FUNCTION witness.see_forgotten()
"""
"""Triggers of a claim run while it has the lock that claims take turns by: their order is that of what they saw."""


class Seen(NamedTuple):
    """One change: of a row of the queue, or of who was asked last at a newcomer; or what was forgotten while queued."""

    at: datetime
    what: str
    id: UUID
    origin_key: int
    was_ready: bool
    was_leased: bool
    was_due: datetime
    was_claims: int
    ready: bool
    leased: bool
    suspect: bool
    claims: int
    fence: int

    @property
    def is_claim(self) -> bool:
        return self.what == "UPDATE" and self.claims > self.was_claims

    @property
    def is_wakening(self) -> bool:
        return self.what == "UPDATE" and self.ready and not self.was_ready and self.leased == self.was_leased


@dataclass
class Lease:
    """One that has not ended, or that nobody has found ended.

    Attributes:
        late: It was extended when it was over already, and another may have been let go for it.
    """

    origin_key: int
    suspect: bool
    late: bool = False


def history(server: DatabaseServer, url: str) -> Sequence[Seen]:
    columns = ", ".join(Seen._fields)
    return [Seen(*row) for row in server.execute(f"SELECT {columns} FROM witness.seen ORDER BY seq", database=url)]  # noqa: S608


def broken_rules(seen: Sequence[Seen]) -> Iterator[str]:
    """What ought never to have happened, in sentences."""
    yield from (f"{one.id} was forgotten while it was queued" for one in seen if one.what == "FORGOTTEN")
    yield from _broken_leases([one for one in seen if one.what != "FORGOTTEN"])


def _broken_leases(seen: Sequence[Seen]) -> Iterator[str]:
    out: dict[UUID, Lease] = {}
    fences: dict[UUID, int] = {}
    for one in seen:
        if one.what == "ASKED":
            yield from _asked(one, out)
        elif one.what == "INSERT":
            if one.fence < fences.get(one.id, 0):
                yield f"{one.id} was queued anew under a fence that had been used"
        elif one.is_wakening:
            if one.was_due > one.at:
                yield f"{one.id} was woken before it was due"
            out.pop(one.id, None)
        elif one.what == "DELETE" or not one.leased:
            out.pop(one.id, None)
        elif one.is_claim:
            yield from _claimed(one, out, fences.get(one.id, 0))
            out[one.id] = Lease(one.origin_key, one.suspect)
            fences[one.id] = one.fence
        elif not one.ready:
            late = one.was_ready or (one.id in out and out[one.id].late)
            out[one.id] = Lease(one.origin_key, one.suspect, late)


def _claimed(one: Seen, out: dict[UUID, Lease], newest: int) -> Iterator[str]:
    if one.fence <= newest:
        yield f"{one.id} was claimed under a fence that had been used"
    if not one.was_ready or one.id in out:
        yield f"{one.id} was claimed while a lease held"
    if one.suspect and any(other.suspect and not other.late for other in out.values()):
        yield f"{one.id} was claimed as a suspect while another was out"


def _asked(one: Seen, out: dict[UUID, Lease]) -> Iterator[str]:
    others = (other for id_, other in out.items() if id_ != one.id)
    if any(other.origin_key == one.origin_key and not other.late for other in others):
        yield f"{one.id} was claimed of a newcomer while another one of its was out"
