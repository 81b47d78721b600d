"""The other side: what is believed, and why anything else is not."""

from __future__ import annotations

import hmac
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from email.message import Message
from typing import Annotated, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Depends, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from callback_middleware.receiver import InvalidSignature, Verified, signed_by, verify

NOW = datetime(2030, 1, 1, 12, 30, 15, tzinfo=UTC)
ID = "01890000-0000-7000-8000-000000000001"
SECOND = str(int(NOW.timestamp()))
BODY = b'{"paid": true}'
NEW = "whsec_" + b64encode(b"n" * 32).decode()
OLD = "whsec_" + b64encode(b"o" * 24).decode()
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"p" * 32)
PUBLIC = "whpk_" + b64encode(PRIVATE.public_key().public_bytes_raw()).decode()


def v1(secret: str = NEW, *, identifier: str = ID, timestamp: str = SECOND, body: bytes = BODY) -> str:
    content = f"{identifier}.{timestamp}.".encode() + body
    key = b64decode(secret.removeprefix("whsec_"))
    return "v1," + b64encode(hmac.new(key, content, "sha256").digest()).decode()


def v1a(body: bytes = BODY) -> str:
    return "v1a," + b64encode(PRIVATE.sign(f"{ID}.{SECOND}.".encode() + body)).decode()


def signed(signature: str, *, identifier: str = ID, timestamp: str = SECOND) -> dict[str, str]:
    return {"webhook-id": identifier, "webhook-timestamp": timestamp, "webhook-signature": signature}


def refusal(headers: Any, secrets: str | Iterable[str] = NEW, *, body: bytes = BODY, now: datetime = NOW) -> str:
    """Why it is not believed."""
    with pytest.raises(InvalidSignature) as refused:
        verify(headers, body, secrets, now=now)
    said = str(refused.value)
    for text in (NEW, OLD, PUBLIC, v1(), v1(OLD), v1a()):
        assert text[6:] not in said
    return said


def test_what_was_signed_is_believed() -> None:
    assert verify(signed(v1()), BODY, NEW, now=NOW) == Verified(ID, NOW, BODY)


def test_the_example_of_the_reference_library_is_believed() -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    at = datetime.fromtimestamp(1614265330, UTC)

    verified = verify(headers, b'{"test": 2432232314}', "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", now=at)

    assert verified == Verified("msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}')


def test_what_is_verified_shows_no_body() -> None:
    assert "paid" not in repr(verify(signed(v1()), BODY, NEW, now=NOW))


@given(st.binary())
def test_any_bytes_are_a_body(body: bytes) -> None:
    assert verify(signed(v1(body=body)), body, NEW, now=NOW).body == body


def test_without_now_it_is_the_systems_time() -> None:
    second = str(int(datetime.now(UTC).timestamp()))  # noqa: TID251 - that is the test

    assert verify(signed(v1(timestamp=second), timestamp=second), BODY, NEW).id == ID
    with pytest.raises(InvalidSignature, match="s ahead"):
        verify(signed(v1(timestamp="9" * 11), timestamp="9" * 11), BODY, NEW)


def message(headers: Mapping[str, str]) -> Message:
    made = Message()
    for name, value in headers.items():
        made[name] = value
    return made


@pytest.mark.parametrize(
    "like",
    [
        pytest.param(dict, id="a mapping"),
        pytest.param(lambda headers: {name.upper(): value for name, value in headers.items()}, id="in capitals"),
        pytest.param(lambda headers: {name.title(): value for name, value in headers.items()}, id="in title case"),
        pytest.param(lambda headers: list(headers.items()), id="pairs"),
        pytest.param(lambda headers: iter(headers.items()), id="an iterator of pairs"),
        pytest.param(lambda headers: [(n.encode(), v.encode()) for n, v in headers.items()], id="ASGI's"),
        pytest.param(Headers, id="Starlette's"),
        pytest.param(httpx.Headers, id="httpx'"),
        pytest.param(message, id="http.server's"),
    ],
)
def test_headers_may_be_those_of_any_framework(like: Callable[[dict[str, str]], Any]) -> None:
    headers = like({"host": "receiver.example", **signed(v1()), "accept": "*/*"})

    assert verify(headers, BODY, NEW, now=NOW).id == ID


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_is_missing_is_named(name: str) -> None:
    headers = signed(v1())
    assert f"{name} is missing" in refusal({**headers, name: ""})
    del headers[name]
    assert f"{name} is missing" in refusal(headers)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("like", [list, Headers])
def test_a_header_that_came_twice_is_named_even_if_both_say_the_same(name: str, like: Callable[[Any], Any]) -> None:
    headers = signed(v1())
    twice = [(key.encode(), value.encode()) for key, value in (*headers.items(), (name.title(), headers[name]))]

    assert f"{name} came more than once" in refusal(Headers(raw=twice) if like is Headers else twice)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_two_headers_that_something_on_the_way_joined_are_refused(name: str) -> None:
    value = signed(v1())[name]

    assert f"{name} is n" in refusal({**signed(v1()), name: f"{value}, {value}"})


@pytest.mark.parametrize("timestamp", ["now", "1.5", "-1", "+1", " 1", "1\n", "0x10", "1e9", "\u0661", "9" * 12])
def test_a_timestamp_is_digits(timestamp: str) -> None:
    said = refusal(signed(v1(timestamp=timestamp), timestamp=timestamp))

    assert said == "webhook-timestamp is no number of seconds since 1970"


def test_a_signature_is_believed_for_five_minutes_and_no_longer() -> None:
    headers = signed(v1())
    for off in (timedelta(minutes=5), timedelta(minutes=-5)):
        assert verify(headers, BODY, NEW, now=NOW + off).timestamp == NOW

    assert "is 301 s old, and 300 s are allowed" in refusal(headers, now=NOW + timedelta(minutes=5, seconds=1))
    assert "is 301 s ahead, and 300 s are allowed" in refusal(headers, now=NOW - timedelta(minutes=5, seconds=1))


def test_the_tolerance_is_the_receivers() -> None:
    headers = signed(v1())
    late = NOW + timedelta(hours=1)

    assert verify(headers, BODY, NEW, now=late, tolerance=timedelta(hours=1)).id == ID
    with pytest.raises(InvalidSignature, match="0 s are allowed"):
        verify(headers, BODY, NEW, now=late, tolerance=timedelta())
    assert verify(headers, BODY, NEW, now=late, tolerance=timedelta.max).id == ID


def test_now_may_be_in_any_time_zone() -> None:
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))

    assert verify(signed(v1()), BODY, NEW, now=tokyo).timestamp == NOW


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(signed(v1(OLD)), id="another secret"),
        pytest.param(signed(v1(identifier="another")), id="another id"),
        pytest.param(signed(v1(timestamp=str(int(SECOND) + 1))), id="another time"),
        pytest.param(signed(v1(body=b'{"paid":true}')), id="another body"),
        pytest.param(signed("v1,AAAA"), id="a short one"),
        pytest.param(signed("v1," + b64encode(bytes(32)).decode()), id="zeros"),
        pytest.param(signed(v1() + "A" * 44), id="a long one"),
    ],
)
def test_what_was_not_signed_is_not_believed(headers: dict[str, str]) -> None:
    said = refusal(headers)

    assert "does not match" in said or "not base64" in said


@given(st.integers(0, 31), st.integers(1, 255))
def test_a_signature_that_differs_by_any_bit_is_not_believed(position: int, bits: int) -> None:
    signature = bytearray(b64decode(v1().removeprefix("v1,")))
    signature[position] ^= bits

    assert "does not match" in refusal(signed("v1," + b64encode(signature).decode()))


def test_of_several_signatures_any_one_is_enough() -> None:
    for signatures in ((v1(), v1(OLD)), (v1(OLD), v1())):
        headers = signed(" ".join(signatures))
        assert verify(headers, BODY, NEW, now=NOW) == verify(headers, BODY, OLD, now=NOW)


def test_of_several_secrets_any_one_is_enough() -> None:
    for secrets in ([NEW, OLD], [OLD, NEW], iter((OLD, NEW))):
        assert verify(signed(v1()), BODY, secrets, now=NOW).id == ID


def test_more_than_one_space_between_signatures_is_no_harm() -> None:
    assert verify(signed(f"  {v1(OLD)}  {v1()} "), BODY, NEW, now=NOW).id == ID


@pytest.mark.parametrize("stranger", ["v2,abc", "v1a,abc", "v10,abc", "V1,abc", "v1", ",", "nonsense"])
def test_an_unknown_version_is_ignored_beside_a_good_signature(stranger: str) -> None:
    for both in (f"{stranger} {v1()}", f"{v1()} {stranger}"):
        assert verify(signed(both), BODY, NEW, now=NOW).id == ID


def test_a_signature_counts_for_its_own_version_alone() -> None:
    assert "does not match" in refusal(signed("v1a," + v1().removeprefix("v1,")), [NEW, PUBLIC])
    assert "does not match" in refusal(signed("v1," + v1a().removeprefix("v1a,")), [NEW, PUBLIC])


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_bytes_that_are_no_ascii_are_a_strangers_and_no_error_of_ours(name: str) -> None:
    headers = {**signed(v1()), name: "\xff"}

    assert name in refusal(
        [(b"\xff", b"\xff"), *((key.encode(), one.encode("latin-1")) for key, one in headers.items())]
    )


def test_an_unknown_version_alone_is_named() -> None:
    future = "v2," + v1().removeprefix("v1,")

    assert "has no signature of version v1" in refusal(signed(future))
    assert "has no signature of version v1a" in refusal(signed(v1()), PUBLIC)
    assert "has no signature of version v1 or v1a" in refusal(signed(future), [NEW, PUBLIC])


@pytest.mark.parametrize("malformed", ["v1,", "v1,*", "v1,abc", "v1,é", "v1", "v1,=="])
def test_what_is_no_base64_is_named_and_ignored_beside_a_good_signature(malformed: str) -> None:
    assert "is not base64" in refusal(signed(malformed))
    assert verify(signed(f"{malformed} {v1()}"), BODY, NEW, now=NOW).id == ID


def test_a_stranger_cannot_have_any_number_of_signatures_tried() -> None:
    assert verify(signed(" ".join([v1(OLD)] * 31 + [v1()])), BODY, NEW, now=NOW).id == ID
    assert "more than 32 signatures" in refusal(signed(" ".join([v1(OLD)] * 32 + [v1()])))


def test_the_time_cannot_be_moved_into_the_id() -> None:
    """What was signed for ``7`` at SECOND with a body that begins with a number, sent again under another id."""
    body = SECOND.encode() + b"." + BODY
    captured = v1(identifier="7", body=body)
    assert verify(signed(captured, identifier="7"), body, NEW, now=NOW).id == "7"

    assert "without a full stop" in refusal(signed(captured, identifier=f"7.{SECOND}"))


@pytest.mark.parametrize("identifier", ["a b", "é", "\x00", "a\n", "\u20ac"])
def test_an_id_is_visible_ascii(identifier: str) -> None:
    assert "webhook-id is not visible ASCII" in refusal(signed(v1(identifier=identifier), identifier=identifier))


def test_a_public_key_verifies_v1a() -> None:
    for header in (v1a(), f"{v1()} {v1a()}", f"v1a,AAAA {v1a()}"):
        assert verify(signed(header), BODY, PUBLIC, now=NOW).id == ID
    assert verify(signed(v1a()), BODY, [NEW, PUBLIC], now=NOW).id == ID
    assert "does not match" in refusal(signed(v1a(b"another")), PUBLIC)


@pytest.mark.parametrize(
    ("secrets", "problem"),
    [
        ([], "no secret is given"),
        ("", "begins neither with"),
        ("secret", "begins neither with"),
        ("whsk_" + b64encode(b"p" * 32).decode(), "begins neither with"),
        ("whsec_*", "not base64 after whsec_"),
        ("whsec_", "not base64 after whsec_"),
        ("whsec_" + b64encode(bytes(23)).decode(), "has 23 bytes: from 24 to 64"),
        ("whsec_" + b64encode(bytes(65)).decode(), "has 65 bytes: from 24 to 64"),
        ("whpk_" + b64encode(bytes(31)).decode(), "has 31 bytes: from 32 to 32"),
        ([NEW, "whsec_tooShort"], "bytes"),
    ],
)
def test_a_bad_secret_is_the_receivers_own_mistake_and_not_repeated(secrets: str | list[str], problem: str) -> None:
    for use in (lambda: verify(signed(v1()), BODY, secrets, now=NOW), lambda: signed_by(secrets)):
        with pytest.raises(ValueError, match=problem) as refused:
            use()
        for text in (secrets,) if isinstance(secrets, str) else secrets:
            assert text == "" or text[6:] == "" or text[6:] not in str(refused.value)


def test_a_secret_without_padding_is_read() -> None:
    """As some senders write it."""
    assert verify(signed(v1()), BODY, NEW.rstrip("="), now=NOW).id == ID


def test_a_parsed_body_is_the_receivers_own_mistake() -> None:
    with pytest.raises(TypeError, match="as the bytes that came, and not as dict"):
        verify(signed(v1()), {"paid": True}, NEW, now=NOW)  # type: ignore[arg-type] # that is the test


def test_a_naive_now_and_a_negative_tolerance_are_the_receivers_own_mistakes() -> None:
    with pytest.raises(ValueError, match="now must be aware"):
        verify(signed(v1()), BODY, NEW, now=NOW.replace(tzinfo=None))
    with pytest.raises(ValueError, match="must not be negative"):
        verify(signed(v1()), BODY, NEW, tolerance=-timedelta.resolution)
    with pytest.raises(ValueError, match="must not be negative"):
        signed_by(NEW, tolerance=-timedelta.resolution)


def test_every_signature_is_compared_with_every_secret_and_none_byte_by_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare_digest(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)

    verify(signed(" ".join([v1(), v1(OLD), "v2,AAAA", v1()])), BODY, [NEW, OLD], now=NOW)

    assert len(compared) == 6


ALONE = f"""
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.stdlib_module_names and name not in (
            "callback_middleware", "callback_middleware.receiver"
        ):
            raise ImportError(f"{{name}} is not installed")

sys.meta_path.insert(0, Forbid())

from datetime import UTC, datetime
from callback_middleware import receiver

verified = receiver.verify({signed(v1())!r}, {BODY!r}, {NEW!r}, now=datetime.fromtimestamp({SECOND}, UTC))
assert verified.id == {ID!r}
for use in (lambda: receiver.verify({{}}, b"", {PUBLIC!r}), lambda: receiver.signed_by({NEW!r})):
    try:
        use()
    except ImportError as error:
        print(error)
print(*sorted(name for name in sys.modules if name.partition(".")[0] not in sys.stdlib_module_names))
"""


def test_a_receiver_needs_nothing_else_installed_and_nothing_else_of_the_package() -> None:
    # Without site: what is installed may import something by itself when Python starts.
    script = f"import sys; sys.path[:] = {[path for path in sys.path if path]!r}\n{ALONE}"
    ran = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=False)  # noqa: S603

    assert ran.returncode == 0, ran.stderr
    key, framework, imported = ran.stdout.splitlines()
    assert "a whpk_ key needs cryptography" in key
    assert "pip install 'callback_middleware[signing]'" in key
    assert "needs FastAPI or Starlette" in framework
    assert "pip install 'callback_middleware[fastapi]'" in framework
    assert imported == "__main__ callback_middleware callback_middleware.receiver"


@pytest.mark.parametrize(
    ("module", "use", "extra"),
    [
        ("cryptography", lambda: verify({}, b"", PUBLIC), "signing"),
        ("starlette.requests", lambda: signed_by(NEW), "fastapi"),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(
    module: str, use: Callable[[], object], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ImportError, match=rf"pip install 'callback_middleware\[{extra}\]'"):
        use()


class InvoiceEvent(BaseModel):
    paid: bool


Signed = Annotated[Verified, Depends(signed_by([NEW, OLD], max_body=100))]

app = FastAPI()


@app.post("/raw")
async def raw(verified: Signed) -> dict[str, str]:
    return {"id": verified.id, "body": verified.body.decode()}


@app.post("/event")
async def event(event: InvoiceEvent, verified: Signed) -> dict[str, Any]:
    return {"id": verified.id, "paid": event.paid}


async def post(app: Any, path: str, headers: dict[str, str], body: bytes = BODY) -> httpx.Response:
    raw = [
        (b"content-type", b"application/json"),
        *((name.encode(), value.encode()) for name, value in headers.items()),
    ]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": raw}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *bodies = sent
    return httpx.Response(start["status"], headers=start["headers"], content=b"".join(one["body"] for one in bodies))


def fresh(secret: str = NEW, body: bytes = BODY) -> dict[str, str]:
    second = str(int(datetime.now(UTC).timestamp()))  # noqa: TID251 - the dependency asks the system too
    return signed(v1(secret, timestamp=second, body=body), timestamp=second)


@pytest.mark.parametrize(
    ("path", "answer"), [("/raw", {"id": ID, "body": BODY.decode()}), ("/event", {"id": ID, "paid": True})]
)
async def test_a_fastapi_handler_gets_what_was_verified(path: str, answer: object) -> None:
    response = await post(app, path, fresh(OLD))

    assert (response.status_code, response.json()) == (200, answer)


@pytest.mark.parametrize("path", ["/raw", "/event"])
async def test_what_is_not_signed_is_answered_401_and_told_why(path: str) -> None:
    for headers, why in (({}, "webhook-id is missing"), (fresh(body=b"another"), "does not match")):
        response = await post(app, path, headers)
        assert response.status_code == 401
        assert why in response.json()["detail"]
        assert response.headers["www-authenticate"] == "Standard-Webhooks"


@pytest.mark.parametrize("path", ["/raw", "/event"])
async def test_a_body_that_is_too_large_is_answered_413(path: str) -> None:
    body = b'{"paid": true}' + b" " * 86
    assert (await post(app, path, fresh(body=body), body)).status_code == 200
    response = await post(app, path, fresh(body=body + b" "), body + b" ")

    assert response.status_code == 413
    assert response.json() == {"detail": "the body is larger than 100 bytes"}


async def test_of_a_body_that_is_too_large_no_more_is_read() -> None:
    read = 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    scope = {"type": "http", "method": "POST", "path": "/raw", "headers": [], "query_string": b""}
    with pytest.raises(Exception, match="larger than 100 bytes"):
        await signed_by(NEW, max_body=100)(Request(scope, receive))

    assert read == 2


async def test_a_starlette_endpoint_awaits_it() -> None:
    verified_by = signed_by(NEW)

    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse((await verified_by(request)).id)

    starlette = Starlette(routes=[Route("/events", endpoint, methods=["POST"])])

    assert (await post(starlette, "/events", fresh())).text == ID
    assert (await post(starlette, "/events", {})).status_code == 401


def test_the_dependency_adds_nothing_to_the_documentation() -> None:
    operation = app.openapi()["paths"]["/raw"]["post"]

    assert "parameters" not in operation
    assert "requestBody" not in operation
