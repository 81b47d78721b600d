"""What a delivery is signed with, and what exactly is signed."""

from __future__ import annotations

import hmac
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware import StandardWebhooksSigner
from callback_middleware.delivery import Delivery
from callback_middleware.dispatcher.attempts import headers_of
from callback_middleware.errors import ConfigurationError, EgressRefused
from callback_middleware.ports import Signer
from callback_middleware.retry import RetryPolicy
from callback_middleware.subscription import SubscriptionKey, SubscriptionVersion

NOW = datetime(2030, 1, 1, 12, 30, 15, 999_999, tzinfo=UTC)
ID = "01890000-0000-7000-8000-000000000001"
SECOND = 1893501015
DELIVERY = Delivery(
    id=UUID(ID),
    operation="POST /invoices/",
    callback="invoice_notification",
    method="POST",
    url="https://receiver.example/events",
    origin="https://receiver.example:443",
    headers=(("content-type", "application/json"),),
    body=b'{"paid":true}',
    created_at=NOW,
    due_at=NOW,
    retry=RetryPolicy(),
    deadline=timedelta(seconds=15),
)


def secret(byte: int, size: int = 32) -> str:
    return "whsec_" + b64encode(bytes((byte,)) * size).decode()


NEW, OLD = secret(1), secret(2)
MASTER, OLDER = b64encode(b"m" * 32).decode(), b64encode(b"o" * 48).decode()
PRIVATE = "whsk_" + b64encode(b"p" * 32).decode()


def signatures(signer: Signer, delivery: Delivery = DELIVERY, at: datetime = NOW) -> list[str]:
    ((name, value),) = signer.sign(delivery, at)
    assert name == "webhook-signature"
    return value.split(" ")


def v1(text: str, content: bytes) -> str:
    """What a receiver that has this secret expects."""
    key = b64decode(text.removeprefix("whsec_"))
    return "v1," + b64encode(hmac.new(key, content, "sha256").digest()).decode()


def owned(owner: str | None) -> Delivery:
    key = SubscriptionKey("invoice_notification", "2expen51ve", owner)
    return replace(DELIVERY, subscription=SubscriptionVersion(key, 1))


def test_id_second_and_body_are_signed() -> None:
    signer = StandardWebhooksSigner(secrets=NEW)

    assert signatures(signer) == [v1(NEW, f'{ID}.{SECOND}.{{"paid":true}}'.encode())]


def test_a_delivery_without_a_body_signs_the_empty_one() -> None:
    signer = StandardWebhooksSigner(secrets=NEW)

    assert signatures(signer, replace(DELIVERY, body=None)) == [v1(NEW, f"{ID}.{SECOND}.".encode())]


@given(st.binary())
def test_the_exact_bytes_of_the_body_are_signed(body: bytes) -> None:
    signer = StandardWebhooksSigner(secrets=NEW)

    assert signatures(signer, replace(DELIVERY, body=body)) == [v1(NEW, f"{ID}.{SECOND}.".encode() + body)]


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
    st.integers(-1439, 1439),
)
def test_signature_and_header_have_the_same_second_in_every_time_zone(now: datetime, minutes: int) -> None:
    local = now.astimezone(timezone(timedelta(minutes=minutes)))
    signer = StandardWebhooksSigner(secrets=NEW)

    headers = dict(headers_of(DELIVERY, local, signer))

    assert headers["webhook-timestamp"] == str(int(now.replace(microsecond=0).timestamp()))
    content = f'{headers["webhook-id"]}.{headers["webhook-timestamp"]}.{{"paid":true}}'.encode()
    assert headers["webhook-signature"] == v1(NEW, content)


def test_of_several_secrets_each_signs_and_one_space_stands_between_two() -> None:
    signer = StandardWebhooksSigner(secrets=[NEW, OLD])
    content = f'{ID}.{SECOND}.{{"paid":true}}'.encode()

    assert signer.sign(DELIVERY, NOW) == (("webhook-signature", f"{v1(NEW, content)} {v1(OLD, content)}"),)


def test_ed25519_signs_beside_hmac() -> None:
    symmetric, asymmetric = signatures(StandardWebhooksSigner(secrets=[NEW, PRIVATE]))

    assert symmetric.startswith("v1,")
    version, signature = asymmetric.split(",")
    assert version == "v1a"
    assert len(b64decode(signature)) == 64


def test_a_secret_may_depend_on_the_delivery() -> None:
    asked = []

    def secret_for(delivery: Delivery) -> list[str]:
        asked.append(delivery)
        return [NEW, OLD]

    signer = StandardWebhooksSigner(secret_for=secret_for)

    assert signatures(signer) == signatures(StandardWebhooksSigner(secrets=[NEW, OLD]))
    assert asked == [DELIVERY]


@pytest.mark.parametrize("found", [None, "", [], [PRIVATE], "whsec_short", [NEW, "secret"]])
def test_what_secret_for_returns_is_looked_at_when_it_is_used(found: object) -> None:
    signer = StandardWebhooksSigner(secret_for=lambda _: found)  # type: ignore[arg-type,return-value] # that is the test

    with pytest.raises(ConfigurationError) as refused:
        signer.sign(DELIVERY, NOW)

    assert "short" not in str(refused.value)


def test_of_a_master_every_origin_has_its_own_secret() -> None:
    signer = StandardWebhooksSigner(master=MASTER)
    content = f'{ID}.{SECOND}.{{"paid":true}}'.encode()

    shown = signer.secret_of(url="https://receiver.example/events/7?q=1")
    assert signatures(signer) == [v1(shown, content)]
    assert len(b64decode(shown.removeprefix("whsec_"))) == 32
    other = replace(DELIVERY, origin="https://receiver.example:8443")
    assert signatures(signer, other) == [v1(signer.secret_of(url="https://RECEIVER.example:8443"), content)]
    assert signatures(signer, other) != signatures(signer)


def test_of_a_master_every_owner_has_its_own_secret_wherever_it_is_called() -> None:
    signer = StandardWebhooksSigner(master=MASTER)
    content = f'{ID}.{SECOND}.{{"paid":true}}'.encode()

    assert signatures(signer, owned("acme")) == [v1(signer.secret_of(owner="acme"), content)]
    moved = replace(owned("acme"), origin="https://elsewhere.example:443")
    assert signatures(signer, moved) == signatures(signer, owned("acme"))
    assert signatures(signer, owned("umbrella")) != signatures(signer, owned("acme"))


def test_a_subscription_that_nobody_owns_is_signed_for_its_origin() -> None:
    signer = StandardWebhooksSigner(master=MASTER)

    assert signatures(signer, owned(None)) == signatures(signer)


def test_an_owner_who_is_named_like_an_origin_has_another_secret() -> None:
    signer = StandardWebhooksSigner(master=MASTER)

    assert signatures(signer, owned(DELIVERY.origin)) != signatures(signer)


def test_the_empty_owner_is_an_owner() -> None:
    signer = StandardWebhooksSigner(master=MASTER)

    assert signatures(signer, owned("")) != signatures(signer)
    assert signer.secret_of(owner="") != signer.secret_of(owner="acme")


def test_of_several_masters_each_signs_and_the_newest_is_shown() -> None:
    both = StandardWebhooksSigner(master=[MASTER, OLDER])
    new, old = StandardWebhooksSigner(master=MASTER), StandardWebhooksSigner(master=OLDER)

    assert signatures(both) == [*signatures(new), *signatures(old)]
    assert both.secret_of(owner="acme") == new.secret_of(owner="acme")
    assert both.secrets_of(owner="acme") == [new.secret_of(owner="acme"), old.secret_of(owner="acme")]


def test_what_a_master_derives_can_be_used_for_what_the_application_knows() -> None:
    derived = StandardWebhooksSigner(master=[MASTER, OLDER])
    signer = StandardWebhooksSigner(secret_for=lambda delivery: derived.secrets_of(owner=delivery.tags["developer"]))

    tagged = replace(DELIVERY, tags={"developer": "acme"})
    assert signatures(signer, tagged) == signatures(derived, owned("acme"))


def test_of_a_master_everybody_may_have_a_key_pair_too() -> None:
    signer = StandardWebhooksSigner(master=[MASTER, OLDER], ed25519=True)
    content = f'{ID}.{SECOND}.{{"paid":true}}'.encode()

    *symmetric, newest, _ = signatures(signer, owned("acme"))
    assert symmetric == signatures(StandardWebhooksSigner(master=[MASTER, OLDER]), owned("acme"))
    public = signer.public_key_of(owner="acme")
    assert public.startswith("whpk_")
    verifier = Ed25519PublicKey.from_public_bytes(b64decode(public.removeprefix("whpk_")))
    verifier.verify(b64decode(newest.removeprefix("v1a,")), content)
    assert signer.public_key_of(url=DELIVERY.url) != public


def test_without_key_pairs_there_is_no_public_key() -> None:
    with pytest.raises(ConfigurationError, match="without ed25519=True"):
        StandardWebhooksSigner(master=MASTER).public_key_of(owner="acme")


@pytest.mark.parametrize("ask", ["secret_of", "secrets_of", "public_key_of"])
@pytest.mark.parametrize("whose", [{}, {"owner": "acme", "url": "https://acme.example"}])
def test_whose_secret_must_be_said(ask: str, whose: dict[str, str]) -> None:
    signer = StandardWebhooksSigner(master=MASTER, ed25519=True)

    with pytest.raises(ConfigurationError, match="say whose secret"):
        getattr(signer, ask)(**whose)


def test_an_origin_that_nothing_could_be_sent_to_has_no_secret() -> None:
    with pytest.raises(EgressRefused):
        StandardWebhooksSigner(master=MASTER).secret_of(url="receiver.example")


@pytest.mark.parametrize(
    "signer", [StandardWebhooksSigner(secrets=NEW), StandardWebhooksSigner(secret_for=lambda _: NEW)]
)
def test_only_a_master_derives(signer: StandardWebhooksSigner) -> None:
    for ask in (signer.secret_of, signer.secrets_of, signer.public_key_of):
        with pytest.raises(ConfigurationError, match="only a signer with a master derives secrets"):
            ask(owner="acme")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (StandardWebhooksSigner, "give one of master, secrets and secret_for, and not none"),
        (lambda: StandardWebhooksSigner(master=""), "not none (or an empty one)"),
        (lambda: StandardWebhooksSigner(master=MASTER, secrets=NEW), "not master and secrets"),
        (lambda: StandardWebhooksSigner(secrets=NEW, secret_for=lambda _: NEW), "not secrets and secret_for"),
        (lambda: StandardWebhooksSigner(secrets=NEW, ed25519=True), "beside secrets, give whsk_… there"),
        (lambda: StandardWebhooksSigner(secrets=[PRIVATE]), "v1a alone"),
        (lambda: StandardWebhooksSigner(secrets=[NEW, MASTER]), "begins neither with whsec_"),
        (lambda: StandardWebhooksSigner(master=NEW), "a master is nobody's secret"),
        (lambda: StandardWebhooksSigner(master=[MASTER, "b2xk"]), "has 3 bytes"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(make: Callable[[], object], problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make()

    assert problem in str(refused.value)
    for text in (NEW, MASTER, PRIVATE):
        assert text.rpartition("_")[2] not in str(refused.value)


def test_a_missing_extra_is_found_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)

    with pytest.raises(ConfigurationError, match=r"callback_middleware\[signing\]"):
        StandardWebhooksSigner(master=MASTER, ed25519=True)


@pytest.mark.parametrize(
    ("signer", "shown"),
    [
        (StandardWebhooksSigner(master=[MASTER, OLDER]), "StandardWebhooksSigner(masters=2, ed25519=False)"),
        (StandardWebhooksSigner(secrets=[NEW, PRIVATE]), "StandardWebhooksSigner(secrets=2)"),
        (StandardWebhooksSigner(secret_for=lambda _: NEW), "StandardWebhooksSigner(secret_for)"),
    ],
)
def test_a_signer_shows_no_secret(signer: StandardWebhooksSigner, shown: str) -> None:
    assert repr(signer) == str(signer) == shown


def test_a_signer_is_a_value() -> None:
    assert StandardWebhooksSigner(master=MASTER) == StandardWebhooksSigner(master=[MASTER])
    assert StandardWebhooksSigner(master=MASTER) != StandardWebhooksSigner(master=OLDER)
    with pytest.raises(AttributeError):
        StandardWebhooksSigner(master=MASTER)._keyring = None  # type: ignore[misc,assignment] # that is the test


def test_signing_imports_no_cryptography_until_it_is_asked_for() -> None:
    script = f"""
import sys
from callback_middleware import StandardWebhooksSigner
StandardWebhooksSigner(master={MASTER!r})
print("cryptography" in sys.modules)
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    assert shown.stdout == "False\n"
