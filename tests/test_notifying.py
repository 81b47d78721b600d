"""Jobs and other processes notify and unsubscribe without a request."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar

import pytest
from fastapi import APIRouter, Body, Header
from pydantic import BaseModel, Field

from callback_middleware import notify
from callback_middleware.backlog import Bound, Refusal
from callback_middleware.errors import (
    BacklogFull,
    ConfigurationError,
    NobodySubscribed,
    OutboxError,
    OutboxUnavailable,
    OutboxUncertain,
    PayloadInvalid,
    PlanningError,
)
from callback_middleware.notifying import unsubscribe
from callback_middleware.ports import Batch, PutReport
from callback_middleware.sources.functions import body_of
from callback_middleware.subscription import Notification, SubscriptionKey
from callback_middleware.testing import VirtualClock

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Event(BaseModel):
    paid: bool
    paid_at: Annotated[datetime | None, Field(alias="paidAt")] = None


router = APIRouter()


@router.post("{$callback_url}/invoices/{tenant}")
def invoice_paid(tenant: str, body: Event, x_trace: Annotated[str | None, Header()] = None) -> None: ...


@router.post("{$callback_url}/withdrawn")
def invoice_withdrawn() -> None: ...


@router.post("{$callback_url}/noted")
def invoice_noted(body: Annotated[Event, Body(media_type="application/vnd.invoice+json")]) -> None: ...


def plainly_paid(event: Event) -> None: ...


class Outbox:
    """Keeps what is put; of notifications, those to the keys that are subscribed."""

    durable: ClassVar[bool] = False
    patience: ClassVar[float | None] = None
    outage: ClassVar[None] = None

    def __init__(
        self, *subscribed: SubscriptionKey, fails: list[Exception] | None = None, full: Refusal | None = None
    ) -> None:
        self.subscribed = subscribed
        self.full = full
        self.fails = fails or []
        self.notified: list[Notification] = []
        self.ended: list[SubscriptionKey] = []

    async def put(self, batch: Batch) -> PutReport:
        if self.fails:
            raise self.fails.pop(0)
        self.notified += batch.notify
        self.ended += batch.end
        if self.full is not None:
            return PutReport(refused={one.id: self.full for one in batch.notify})
        return PutReport(unsubscribed=[one.id for one in batch.notify if one.key not in self.subscribed])

    async def _unused(self, *arguments: Any, **named: Any) -> Any:
        raise AssertionError

    start = claim = extend = settle = wait = aclose = _unused


def subscribed(callback: str = "invoice_paid") -> Outbox:
    return Outbox(SubscriptionKey(callback, "7", "alice"))


async def notified(callback: Callable[..., object] | str, body: object = None, **named: Any) -> Notification:
    """What arrives in an outbox where this callback is subscribed."""
    outbox = subscribed(callback if isinstance(callback, str) else callback.__name__)
    given: dict[str, Any] = {"key": "7", "owner": "alice", "clock": VirtualClock(NOW), **named}
    identifier = await notify(outbox, callback, body, **given)
    (only,) = outbox.notified
    assert only.id == identifier
    return only


# Of a callback's function


@pytest.mark.parametrize("callback", [invoice_paid, plainly_paid], ids=["of FastAPI's", "a plain one"])
async def test_a_functions_body_is_checked_and_encoded_as_it_declares(callback: Callable[..., object]) -> None:
    one = await notified(callback, Event.model_validate({"paid": True, "paidAt": NOW}))
    assert one.body == b'{"paid":true,"paidAt":"2030-01-01T00:00:00Z"}'
    assert one.headers == (("content-type", "application/json"),)
    assert one.key == SubscriptionKey(callback.__name__, "7", "alice")


@pytest.mark.parametrize("callback", [invoice_paid, plainly_paid], ids=["of FastAPI's", "a plain one"])
async def test_a_body_that_does_not_fit_is_refused_before_anything_is_put(callback: Callable[..., object]) -> None:
    outbox = subscribed(callback.__name__)
    with pytest.raises(PayloadInvalid, match="paid"):
        await notify(outbox, callback, {"paid": "perhaps"}, key="7", owner="alice")
    assert outbox.notified == []


async def test_a_declared_media_type_is_sent() -> None:
    assert (await notified(invoice_noted, {"paid": True})).headers == (
        ("content-type", "application/vnd.invoice+json"),
    )


async def test_a_function_without_a_body_is_notified_without_one() -> None:
    one = await notified(invoice_withdrawn)
    assert (one.body, one.headers) == (None, ())
    with pytest.raises(PayloadInvalid, match="declares no body"):
        await notified(invoice_withdrawn, {"paid": True})


async def test_a_declaration_that_nobody_can_check_is_the_developers_mistake() -> None:
    def broken(body: Outbox) -> None: ...

    with pytest.raises(ConfigurationError, match="broken"):
        await notified(broken, {})


# Of a callback's name


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        pytest.param(b'{"paid": true}', b'{"paid": true}', id="bytes as they stand"),
        pytest.param({"paid": [1.5, None]}, b'{"paid":[1.5,null]}', id="anything that JSON can say"),
        pytest.param(Event(paid=True), b'{"paid":true,"paidAt":null}', id="a model, by alias"),
    ],
)
async def test_by_name_a_body_is_taken_as_it_is(body: object, sent: bytes) -> None:
    one = await notified("invoiceEvent", body)
    assert one.body == sent
    assert one.headers == (("content-type", "application/json"),)


async def test_by_name_none_is_no_body() -> None:
    one = await notified("invoiceEvent")
    assert (one.body, one.headers) == (None, ())


async def test_by_name_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(PayloadInvalid, match="JSON"):
        await notified("invoiceEvent", object())


# When, and under which options


async def test_it_is_due_at_once_after_its_delay_or_at_its_time() -> None:
    assert (await notified("e")).due_at == NOW
    assert (await notified("e", delay=60)).due_at == NOW + timedelta(minutes=1)
    assert (await notified("e", at=NOW + timedelta(days=1))).due_at == NOW + timedelta(days=1)
    assert (await notified("e", at=NOW - timedelta(days=1))).due_at == NOW
    assert (await notified("e")).created_at == NOW


async def test_dedupe_key_and_tags_go_with_it() -> None:
    one = await notified("e", dedupe="paid:7", tags={"invoice": "7"})
    assert (one.dedupe, one.tags) == ("paid:7", {"invoice": "7"})


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"key": ""}, "key='' is no key"),
        ({"key": 7}, "key=7 is no key"),
        ({"owner": ""}, "or None for keys that no client chooses"),
        ({"delay": -1}, "must not be negative"),
        ({"at": datetime(2030, 1, 1)}, "no time zone"),  # noqa: DTZ001 - that is the mistake
        ({"dedupe": ""}, "dedupe='' is no key"),
        ({"tags": {"invoice": 7}}, "text to text"),
    ],
)
async def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanningError, match=says):
        await notified("e", **wrong)


# What the outbox says


@pytest.mark.parametrize(
    ("key", "owner"), [("8", "alice"), ("7", "bob"), ("7", None)], ids=["a key", "an owner", "no owner"]
)
async def test_an_unknown_key_or_another_owners_is_nobodys(key: str, owner: str | None) -> None:
    with pytest.raises(NobodySubscribed, match=f"the key '{key}' of callback 'invoice_paid'"):
        await notify(subscribed(), invoice_paid, Event(paid=True), key=key, owner=owner)


async def test_a_key_that_a_stranger_typed_is_shown_escaped_and_its_owner_is_not() -> None:
    with pytest.raises(NobodySubscribed) as raised:
        await notify(Outbox(), "e", key="\x1b[2J" + "x" * 300, owner="secret-owner")
    assert "\x1b" not in str(raised.value)
    assert "x" * 257 not in str(raised.value)
    assert "secret-owner" not in str(raised.value)


async def test_a_full_backlog_is_the_operators_to_know_with_the_bound_that_is_reached() -> None:
    full = Refusal(Bound.PER_ORIGIN, 7, "https://ext.example:443")
    with pytest.raises(BacklogFull, match="of callback 'e' is not stored: ") as raised:
        await notify(Outbox(full=full), "e", key="7", owner="secret-owner")
    assert str(raised.value).endswith(full.detail)
    assert isinstance(raised.value, OutboxError)
    assert "secret-owner" not in str(raised.value)


async def test_an_unknown_outcome_is_put_again_under_the_same_id() -> None:
    outbox = Outbox(SubscriptionKey("e", "7", None), fails=[OutboxUncertain("the connection broke")])
    identifier = await notify(outbox, "e", key="7", owner=None)
    assert [one.id for one in outbox.notified] == [identifier]


async def test_an_outbox_that_is_out_of_reach_is_the_callers_to_know() -> None:
    with pytest.raises(OutboxUnavailable, match="no disk"):
        await notify(Outbox(fails=[OutboxUnavailable("no disk")]), "e", key="7", owner=None)


# Ending


@pytest.mark.parametrize("callback", ["invoice_paid", invoice_paid], ids=["by name", "by function"])
async def test_a_subscription_is_ended_by_hand(callback: Callable[..., object] | str) -> None:
    outbox = Outbox()
    await unsubscribe(outbox, callback, key="7", owner="alice")
    assert outbox.ended == [SubscriptionKey("invoice_paid", "7", "alice")]


async def test_an_end_without_a_key_is_refused() -> None:
    with pytest.raises(PlanningError, match="is no key"):
        await unsubscribe(Outbox(), "e", key="", owner=None)


# Where FastAPI is not loaded


@pytest.fixture
def without_fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastapi.routing")


@pytest.mark.usefixtures("without_fastapi")
def test_without_fastapi_a_functions_first_parameter_is_its_body() -> None:
    def typed(event: Event, trace: str = "") -> None: ...
    def text(body: str) -> None: ...
    def optional(event: Event | None = None) -> None: ...
    def bare() -> None: ...

    declared, words, maybe = body_of(typed), body_of(text), body_of(optional)
    assert declared is not None
    assert declared.encode({"paid": True}) == b'{"paid":true}'
    with pytest.raises(PayloadInvalid, match="the body is no Event: paid"):
        declared.encode({"paid": "perhaps"})
    assert words is not None
    assert words.encode("a") == b'"a"'
    assert maybe is not None
    assert (declared.required, maybe.required) == (True, False)
    assert body_of(bare) is None


@pytest.mark.usefixtures("without_fastapi")
def test_without_fastapi_an_unannotated_parameter_takes_any_json() -> None:
    def untyped(body): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - that is what it is about

    declared = body_of(untyped)
    assert declared is not None
    assert declared.encode([1]) == b"[1]"


@pytest.mark.usefixtures("without_fastapi")
def test_without_fastapi_annotations_that_cannot_be_read_are_the_developers_mistake() -> None:
    def broken(body: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - that is the mistake

    with pytest.raises(ConfigurationError, match=r"the annotations of .*broken"):
        body_of(broken)


@pytest.mark.usefixtures("without_fastapi")
def test_without_pydantic_a_declared_body_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def typed(event: str) -> None: ...

    monkeypatch.setitem(sys.modules, "callback_middleware.sources.typed_bodies", None)
    with pytest.raises(ConfigurationError, match="pip install pydantic"):
        body_of(typed)
