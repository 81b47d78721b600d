"""What we sign the reference libraries verify, and what they sign we verify."""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest
from references import Reference, Refused, StandardWebhooksOfNpm, StandardWebhooksOfPyPI, SvixOfPyPI

from callback_middleware import StandardWebhooksSigner
from callback_middleware.delivery import Delivery
from callback_middleware.dispatcher.attempts import headers_of
from callback_middleware.ports import Signer
from callback_middleware.receiver import InvalidSignature, verify
from callback_middleware.retry import RetryPolicy
from lacking import lacking

NPM_PACKAGE = "standardwebhooks@1.1.1"

NEW = "whsec_" + b64encode(b"n" * 32).decode()
OLD = "whsec_" + b64encode(b"o" * 24).decode()
LONGEST = "whsec_" + b64encode(b"\xff" * 64).decode()
PRIVATE = "whsk_" + b64encode(b"p" * 32).decode()
MASTER = b64encode(b"m" * 32).decode()

BODIES = [
    pytest.param(b'{"description":"Payment celebration","paid":true}', id="an event"),
    pytest.param('{"description":"Müßte 你好 🎉"}'.encode(), id="no ASCII"),
    pytest.param(b' {\r\n\t"paid" : true }\n', id="white space"),
    pytest.param(b"", id="none"),
    pytest.param(json.dumps("x" * 1_000_000).encode(), id="a megabyte"),
]


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with npm's ``standardwebhooks``. None of its scripts is run."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            lacking(f"the reference library for JavaScript needs {program}: apt-get install nodejs npm")
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--no-save"]
    npm = subprocess.run([*command, NPM_PACKAGE], capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if npm.returncode != 0:
        lacking(
            f"the reference library for JavaScript comes from npm's registry, which must be in reach ({npm.stderr})"
        )
    return folder / "node_modules"


@pytest.fixture(params=["standardwebhooks of PyPI", "svix of PyPI", "standardwebhooks of npm"])
def reference(request: pytest.FixtureRequest) -> Reference:
    match request.param:
        case "standardwebhooks of PyPI":
            return StandardWebhooksOfPyPI()
        case "svix of PyPI":
            return SvixOfPyPI()
        case _:
            return StandardWebhooksOfNpm(request.getfixturevalue("node_modules"))


def now() -> datetime:
    # The reference libraries ask the system too.
    return datetime.now(UTC)  # noqa: TID251


def delivery(body: bytes = b'{"paid":true}') -> Delivery:
    return Delivery(
        id=UUID("01890000-0000-7000-8000-000000000001"),
        operation="POST /invoices/",
        callback="invoice_notification",
        method="POST",
        url="https://receiver.example/events",
        origin="https://receiver.example:443",
        headers=(("content-type", "application/json"),),
        body=body,
        created_at=now(),
        due_at=now(),
        retry=RetryPolicy(),
        deadline=timedelta(seconds=15),
    )


def sent(signer: Signer, body: bytes = b'{"paid":true}', at: datetime | None = None) -> Mapping[str, str]:
    """The headers that a receiver gets."""
    return dict(headers_of(delivery(body), at or now(), signer))


@pytest.mark.parametrize("body", BODIES)
def test_the_reference_verifies_what_we_sign(reference: Reference, body: bytes) -> None:
    headers = sent(StandardWebhooksSigner(secrets=NEW), body)

    reference.verify(NEW, headers, body)


def test_the_reference_refuses_what_was_changed(reference: Reference) -> None:
    headers = sent(StandardWebhooksSigner(secrets=NEW))

    with pytest.raises(Refused):
        reference.verify(NEW, headers, b'{"paid":false}')
    with pytest.raises(Refused):
        reference.verify(OLD, headers, b'{"paid":true}')


def test_the_reference_verifies_with_either_secret_while_one_replaces_the_other(reference: Reference) -> None:
    headers = sent(StandardWebhooksSigner(secrets=[NEW, OLD]))

    for secret in (NEW, OLD):
        reference.verify(secret, headers, b'{"paid":true}')


def test_the_reference_verifies_v1_beside_v1a(reference: Reference) -> None:
    headers = sent(StandardWebhooksSigner(secrets=[PRIVATE, NEW]))

    reference.verify(NEW, headers, b'{"paid":true}')


def test_the_reference_verifies_no_v1a_alone_which_is_why_we_refuse_to_send_it(reference: Reference) -> None:
    headers = {**sent(StandardWebhooksSigner(secrets=[PRIVATE, NEW]))}
    headers["webhook-signature"], _ = headers["webhook-signature"].split(" ")
    assert headers["webhook-signature"].startswith("v1a,")

    with pytest.raises(Refused):
        reference.verify(NEW, headers, b'{"paid":true}')


def test_the_reference_verifies_with_the_secret_that_is_shown(reference: Reference) -> None:
    signer = StandardWebhooksSigner(master=MASTER, ed25519=True)

    shown = signer.secret_of(url="https://receiver.example/")
    reference.verify(shown, sent(signer), b'{"paid":true}')


def test_the_reference_verifies_what_was_signed_in_another_time_zone(reference: Reference) -> None:
    tokyo = now().astimezone(timezone(timedelta(hours=9)))

    headers = sent(StandardWebhooksSigner(secrets=NEW), at=tokyo)
    reference.verify(NEW, headers, b'{"paid":true}')


def test_the_reference_reads_the_longest_secret(reference: Reference) -> None:
    headers = sent(StandardWebhooksSigner(secrets=LONGEST))

    reference.verify(LONGEST, headers, b'{"paid":true}')


@pytest.mark.parametrize("body", BODIES)
def test_we_verify_what_the_reference_signs(reference: Reference, body: bytes) -> None:
    at = now().replace(microsecond=0)
    headers = {
        "webhook-id": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": reference.sign(NEW, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", at, body),
    }

    verified = verify(headers, body, [OLD, NEW])
    assert (verified.id, verified.timestamp, verified.body) == (headers["webhook-id"], at, body)
    with pytest.raises(InvalidSignature, match="does not match"):
        verify(headers, body + b" ", NEW)
