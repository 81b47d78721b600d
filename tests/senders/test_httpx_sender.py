"""The httpx seam: any transport may stand for the network."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import anyio
import httpx
import pytest
from scripted_receiver import BODY, HEADERS, LATER, LOOPBACK, SOON

from callback_middleware.egress import EgressPolicy
from callback_middleware.errors import ConfigurationError
from callback_middleware.outcomes import Accepted, AttemptRequest, Blocked, Phase, Rejected, TimedOut, Unreachable
from callback_middleware.senders.httpx import HttpxSender

REQUEST = AttemptRequest("POST", "https://receiver.example/a/../b?x=%2f", HEADERS, BODY)


async def test_a_mock_transport_fits() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(202, json={"ok": True}, headers={"X-Made": "up"})

    sender = HttpxSender(transport=httpx.MockTransport(handle))
    outcome = await sender.send(REQUEST, egress=EgressPolicy(), deadline=LATER)
    assert isinstance(outcome, Accepted)
    assert outcome.answer.body == b'{"ok":true}'
    assert outcome.answer.header("x-made") == "up"
    assert seen[0].method == "POST"
    assert seen[0].headers["host"] == "receiver.example"
    assert seen[0].headers["content-length"] == str(len(BODY))
    assert seen[0].content == BODY
    assert seen[0].extensions["target"] == b"/a/../b?x=%2f"


async def test_an_asgi_transport_fits() -> None:
    async def receiver(scope, receive, send):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - ASGI
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["raw_path"])]})
        await send({"type": "http.response.body", "body": message["body"]})

    sender = HttpxSender(transport=httpx.ASGITransport(receiver))
    outcome = await sender.send(REQUEST, egress=EgressPolicy(), deadline=LATER)
    assert isinstance(outcome, Accepted)
    assert outcome.answer.body == BODY


async def test_the_policy_is_asked_before_the_transport() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request)

    sender = HttpxSender(transport=httpx.MockTransport(handle))
    outcome = await sender.send(
        AttemptRequest("POST", "https://10.0.0.1/", HEADERS, BODY), egress=EgressPolicy(), deadline=LATER
    )
    assert isinstance(outcome, Blocked)


async def test_a_redirect_is_not_followed_and_a_body_is_cut() -> None:
    response = httpx.Response(302, content=b"x" * 100, headers={"Location": "https://elsewhere.example/"})
    sender = HttpxSender(transport=httpx.MockTransport(lambda _: response), max_answer=10)
    outcome = await sender.send(REQUEST, egress=EgressPolicy(), deadline=LATER)
    assert isinstance(outcome, Rejected)
    assert (outcome.answer.body, outcome.answer.truncated) == (b"x" * 10, True)


@pytest.mark.parametrize("error", [httpx.ConnectError("https://receiver.example/?token=secret"), ValueError("secret")])
async def test_whatever_a_transport_raises_is_a_receiver_that_fails(error: Exception) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise error

    outcome = await HttpxSender(transport=httpx.MockTransport(handle)).send(
        REQUEST, egress=EgressPolicy(), deadline=LATER
    )
    assert outcome == Unreachable(Phase.HEADERS, f"the transport raised {type(error).__name__}")


async def test_the_deadline_holds_for_a_transport_too() -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    outcome = await HttpxSender(transport=httpx.MockTransport(handle)).send(
        REQUEST, egress=EgressPolicy(), deadline=SOON
    )
    assert outcome == TimedOut(Phase.HEADERS)


@pytest.mark.parametrize(
    "weaker",
    [
        {"check_hostname": False},
        {"check_hostname": False, "verify_mode": ssl.CERT_NONE},
        {"minimum_version": ssl.TLSVersion.MINIMUM_SUPPORTED},
    ],
    ids=["any name", "anybody", "any version"],
)
def test_a_context_that_verifies_less_is_refused(weaker: Mapping[str, object]) -> None:
    context = ssl.create_default_context()
    for attribute, value in weaker.items():
        setattr(context, attribute, value)
    with pytest.raises(ConfigurationError, match="ssl_context"):
        HttpxSender(ssl_context=context)


def test_a_context_beside_a_transport_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="give ssl_context to the transport"):
        HttpxSender(
            transport=httpx.MockTransport(lambda _: httpx.Response(200)), ssl_context=ssl.create_default_context()
        )


async def test_two_senders_share_nothing_but_the_loop() -> None:
    """Policies differ between senders of one process; what one may reach, the other may not."""
    strict, loose = HttpxSender(), HttpxSender()
    request = AttemptRequest("POST", "http://127.0.0.1:1/", HEADERS, BODY)
    assert isinstance(await loose.send(request, egress=LOOPBACK, deadline=LATER), Unreachable)
    assert isinstance(await strict.send(request, egress=EgressPolicy(), deadline=LATER), Blocked)
