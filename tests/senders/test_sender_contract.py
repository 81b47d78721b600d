"""What every sender promises, on every event loop that it runs on."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Sequence
from ipaddress import ip_address

import anyio
import anyio.lowlevel
import pytest
import trustme
from scripted_receiver import (
    BODY,
    HEADERS,
    LATER,
    LOOPBACK,
    SOON,
    MakeSender,
    Peer,
    Script,
    always,
    answer,
    names,
    serve,
)

from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.addresses import Address
from callback_middleware.outcomes import (
    Accepted,
    Answer,
    AttemptRequest,
    Blocked,
    Outcome,
    Phase,
    Rejected,
    TimedOut,
    Unreachable,
)
from callback_middleware.ports import Sender
from callback_middleware.senders.idle import PoolLimits
from callback_middleware.senders.wire import MAX_ANSWER


@pytest.fixture
def anyio_backend(combination: Sequence[str]) -> str:
    """Both, but asyncio alone for aiohttp."""
    return combination[1]


def bodies(outcome: Outcome) -> Answer:
    assert isinstance(outcome, Accepted | Rejected), outcome
    return outcome.answer


def lines(request: bytes) -> tuple[str, dict[str, str], bytes]:
    """A request's first line, its headers and its body; no header may come twice."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *rest = head.decode("ascii").split("\r\n")
    headers = dict(line.split(": ", 1) for line in rest)
    assert len(headers) == len(rest)
    return first, headers, body


class TestAnswers:
    @pytest.mark.parametrize("status", ["200 OK", "201 Created", "202 Accepted", "299 Whatever"])
    async def test_2xx_accepts(self, sender: Sender, status: str) -> None:
        async with serve(always(answer(status))) as receiver:
            outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Accepted)
        assert (outcome.answer.status, outcome.answer.body) == (int(status[:3]), b"ok")

    @pytest.mark.parametrize("status", ["304 Not Modified", "400 Bad Request", "410 Gone", "500 Oops", "503 Later"])
    async def test_everything_else_rejects(self, sender: Sender, status: str) -> None:
        async with serve(always(answer(status, b"", "Retry-After: 120"))) as receiver:
            outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Rejected)
        assert outcome.answer.status == int(status[:3])
        assert outcome.answer.header("retry-after") == "120"

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_a_redirect_is_not_followed(self, sender: Sender, status: int) -> None:
        async with serve(always(answer(f"{status} Elsewhere", b"", "Location: /elsewhere"))) as receiver:
            outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Rejected)
        assert len(receiver.requests) == 1

    async def test_204_has_no_body_and_the_connection_goes_on(self, sender: Sender) -> None:
        async with serve(always(b"HTTP/1.1 204 No Content\r\n\r\n")) as receiver:
            for _ in range(2):
                assert bodies(await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)).body == b""
        assert receiver.accepted == 1

    async def test_a_chunked_body_is_joined(self, sender: Sender) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        async with serve(always(chunked)) as receiver:
            outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
        assert bodies(outcome).body == b"abc"

    async def test_http_1_0_ends_with_the_connection(self, sender: Sender) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.0 200 OK\r\n\r\nold but good")
            await peer.close()

        async with serve(script) as receiver:
            for _ in range(2):
                outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
                assert isinstance(outcome, Accepted)
                assert outcome.answer.body == b"old but good"
        assert receiver.accepted == 2

    async def test_a_compressed_body_stays_as_it_is(self, sender: Sender) -> None:
        squeezed = gzip.compress(b"x" * 10_000)
        async with serve(always(answer("200 OK", squeezed, "Content-Encoding: gzip"))) as receiver:
            outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
        assert bodies(outcome).body == squeezed

    async def test_an_endless_body_is_cut_at_the_cap_and_its_connection_closed(self, sender: Sender) -> None:
        gone = anyio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                while True:
                    await peer.send(b"x" * 4096)
            except anyio.BrokenResourceError:
                gone.set()

        async with serve(script) as receiver:
            outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
            assert bodies(outcome) == Answer(200, bodies(outcome).headers, b"x" * MAX_ANSWER, truncated=True)
            await gone.wait()

    async def test_a_body_of_exactly_the_cap_is_whole(self, make_sender: MakeSender) -> None:
        async with serve(always(answer("200 OK", b"12345"))) as receiver:
            outcome = await make_sender(max_answer=5).send(receiver.post(), egress=LOOPBACK, deadline=LATER)
            assert bodies(outcome).truncated is False
            outcome = await make_sender(max_answer=4).send(receiver.post(), egress=LOOPBACK, deadline=LATER)
        assert (bodies(outcome).body, bodies(outcome).truncated) == (b"1234", True)

    async def test_eight_informational_answers_are_passed_over(self, sender: Sender) -> None:
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 8
        async with serve(always(early + answer())) as receiver:
            assert isinstance(await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER), Accepted)

    async def test_the_ninth_informational_answer_is_one_too_many(self, sender: Sender) -> None:
        async with serve(always(b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + answer())) as receiver:
            outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
        assert outcome == Unreachable(Phase.HEADERS, "malformed answer: more than 8 informational ones")

    @pytest.mark.parametrize(
        "response",
        [
            b"220 mail.example ESMTP\r\n\r\n",
            b"HTTP/1.1 two hundred\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        ],
        ids=["another protocol", "no status", "no length", "two lengths", "many headers", "long header"],
    )
    async def test_what_is_no_answer_is_unreachable(self, sender: Sender, response: bytes) -> None:
        async with serve(always(response)) as receiver:
            outcome = await sender.send(receiver.post("/?token=secret"), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Unreachable)
        assert outcome.phase is Phase.HEADERS
        assert "secret" not in outcome.detail
        assert "yy" not in outcome.detail


class TestTheRequest:
    async def test_exactly_these_bytes_go_over_the_wire(self, sender: Sender) -> None:
        async with serve(always(answer())) as receiver:
            await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
        first, headers, body = lines(receiver.requests[0])
        assert first == "POST / HTTP/1.1"
        agent = headers.pop("User-Agent")
        assert agent.startswith("callback-middleware/")
        assert headers == {
            "Host": f"127.0.0.1:{receiver.port}",
            "Accept-Encoding": "identity",
            "Content-Length": str(len(BODY)),
            **dict(HEADERS),
        }
        assert body == BODY

    @pytest.mark.parametrize(
        "target",
        [
            "/a/../b/./c",
            "/%2e%2E/%2f?x=%2F&y=%zz",
            "//double//slash",
            "/;p=1?q=a+b&q='\"{}|^`",
            "/~user/!$&'()*+,;=:@",
        ],
    )
    async def test_the_target_is_sent_as_it_stands(self, sender: Sender, target: str) -> None:
        async with serve(always(answer())) as receiver:
            await sender.send(receiver.post(target), egress=LOOPBACK, deadline=LATER)
        assert lines(receiver.requests[0])[0] == f"POST {target} HTTP/1.1"

    @pytest.mark.parametrize("combination", [["httpx", "asyncio"], ["httpx", "trio"]])  # yarl loses it
    async def test_a_lone_question_mark_is_sent_too(self, sender: Sender) -> None:
        async with serve(always(answer())) as receiver:
            await sender.send(receiver.post("/p?"), egress=LOOPBACK, deadline=LATER)
        assert lines(receiver.requests[0])[0] == "POST /p? HTTP/1.1"

    @pytest.mark.parametrize(("given", "sent"), [("", "/"), ("?a=b", "/?a=b"), ("/p#fragment", "/p")])
    async def test_a_target_is_never_empty_and_has_no_fragment(self, sender: Sender, given: str, sent: str) -> None:
        async with serve(always(answer())) as receiver:
            await sender.send(receiver.post(given), egress=LOOPBACK, deadline=LATER)
        assert lines(receiver.requests[0])[0] == f"POST {sent} HTTP/1.1"

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET", "HEAD", "OPTIONS"])
    async def test_every_method_is_sent_and_without_a_body_has_none(self, sender: Sender, method: str) -> None:
        response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        async with serve(always(response)) as receiver:
            request = AttemptRequest(method, receiver.url(), (), None)
            assert isinstance(await sender.send(request, egress=LOOPBACK, deadline=LATER), Accepted)
        first, headers, body = lines(receiver.requests[0])
        assert first == f"{method} / HTTP/1.1"
        if method in {"POST", "PUT", "PATCH"}:
            assert headers["Content-Length"] == "0"
        else:
            assert headers.get("Content-Length", "0") == "0"
        assert "Transfer-Encoding" not in headers
        assert body == b""

    async def test_given_headers_never_touch_host_framing_or_encoding(self, sender: Sender) -> None:
        forged = (
            ("Host", "elsewhere.example"),
            ("Content-Length", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close"),
            ("accept-encoding", "gzip"),
            ("User-Agent", "theirs/1"),
        )
        async with serve(always(answer())) as receiver:
            request = AttemptRequest("POST", receiver.url(), forged, BODY)
            assert isinstance(await sender.send(request, egress=LOOPBACK, deadline=LATER), Accepted)
        _, headers, _ = lines(receiver.requests[0])
        assert headers == {
            "Host": f"127.0.0.1:{receiver.port}",
            "Accept-Encoding": "identity",
            "User-Agent": "theirs/1",
            "Content-Length": str(len(BODY)),
        }

    @pytest.mark.parametrize("value", ["a\r\nInjected: 1", "a\nb", "a\0b"])
    async def test_a_header_that_would_be_two_is_not_sent(self, sender: Sender, value: str) -> None:
        async with serve(always(answer())) as receiver:
            request = AttemptRequest("POST", receiver.url(), (("X-Secret", value),), BODY)
            outcome = await sender.send(request, egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Unreachable)
        assert value not in outcome.detail
        assert receiver.requests == []

    async def test_a_large_body_arrives_whole(self, sender: Sender) -> None:
        body = bytes(range(256)) * 16_384
        async with serve(always(answer())) as receiver:
            request = AttemptRequest("POST", receiver.url(), (), body)
            assert isinstance(await sender.send(request, egress=LOOPBACK, deadline=LATER), Accepted)
        assert lines(receiver.requests[0])[2] == body

    async def test_a_cookie_is_not_kept(self, sender: Sender) -> None:
        async with serve(always(answer("200 OK", b"", "Set-Cookie: a=b; Path=/"))) as receiver:
            for _ in range(2):
                await sender.send(receiver.post(host="localhost"), egress=LOOPBACK, deadline=LATER)
        assert "Cookie" not in lines(receiver.requests[1])[1]

    async def test_a_proxy_in_the_environment_is_not_used(
        self, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with serve(always(answer("502 Proxy"))) as proxy, serve(always(answer())) as receiver:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url())
            assert isinstance(await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER), Accepted)
        assert proxy.accepted == 0


class TestConnections:
    async def test_a_connection_is_used_again(self, sender: Sender) -> None:
        async with serve(always(answer())) as receiver:
            for _ in range(5):
                assert isinstance(await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER), Accepted)
        assert (receiver.accepted, len(receiver.requests)) == (1, 5)

    @pytest.mark.parametrize("how", ["close", "reset"])
    async def test_one_that_the_receiver_closed_while_idle_is_not(self, sender: Sender, how: str) -> None:
        closed = [anyio.Event() for _ in range(3)]

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer())
            await anyio.wait_all_tasks_blocked()  # an RST would overtake the answer
            await getattr(peer, how)()
            closed[len(peer.receiver.requests) - 1].set()

        async with serve(script) as receiver:
            for number in range(3):
                assert isinstance(await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER), Accepted)
                await closed[number].wait()
                for _ in range(5):  # a transport of asyncio's hears of it in the loop's next turns
                    await anyio.lowlevel.checkpoint()
        assert receiver.accepted == 3

    @pytest.mark.parametrize("header", ["Connection: close", "Connection: Close, X"])
    async def test_one_that_the_receiver_wants_closed_is_closed(self, sender: Sender, header: str) -> None:
        async with serve(always(answer("200 OK", b"ok", header))) as receiver:
            for _ in range(2):
                assert isinstance(await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER), Accepted)
        assert receiver.accepted == 2

    @pytest.mark.parametrize("at_once", [True, False])
    async def test_an_answer_sent_in_advance_answers_nothing(self, sender: Sender, *, at_once: bool) -> None:
        sent = anyio.Event()
        first = True

        async def script(peer: Peer) -> None:
            nonlocal first
            await peer.request()
            if not first:
                await peer.send(answer("500 Honest"))
                return
            first = False
            if at_once:
                await peer.send(answer() + answer("200 Forged"))
            else:
                await peer.send(answer())
                await anyio.wait_all_tasks_blocked()
                await peer.send(answer("200 Forged"))
            sent.set()
            await peer.gone()

        async with serve(script) as receiver:
            assert isinstance(await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER), Accepted)
            await sent.wait()
            await anyio.wait_all_tasks_blocked()
            outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
        assert bodies(outcome).status == 500
        assert receiver.accepted == 2

    async def test_two_names_of_one_address_share_none(self, make_sender: MakeSender) -> None:
        sender = make_sender(lookup=names(a_example="127.0.0.1", b_example="127.0.0.1"))
        async with serve(always(answer())) as receiver:
            for host in ("a.example", "b.example", "a.example", "b.example"):
                request = receiver.post(host=host)
                assert isinstance(await sender.send(request, egress=LOOPBACK, deadline=LATER), Accepted)
        assert receiver.accepted == 2
        assert lines(receiver.requests[2])[1]["Host"] == f"a.example:{receiver.port}"

    async def test_two_hundred_cancelled_attempts_leave_no_slot_taken(self, make_sender: MakeSender) -> None:
        sender = make_sender(limits=PoolLimits(connections=8))
        silent, full = anyio.Event(), 0

        async def script(peer: Peer) -> None:
            nonlocal full
            await peer.request()
            if silent.is_set():
                await peer.send(answer())
                return
            full += 1
            await peer.gone()

        async with serve(script) as receiver:
            async with anyio.create_task_group() as tasks:
                for _ in range(200):
                    tasks.start_soon(lambda: sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER))
                while full < 8:
                    await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            assert full == 8
            silent.set()
            async with anyio.create_task_group() as tasks:
                outcomes: list[Outcome] = []

                async def once() -> None:
                    outcomes.append(await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER))

                for _ in range(8):
                    tasks.start_soon(once)
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)

    async def test_a_broken_connection_is_not_tried_twice(self, sender: Sender) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            if len(peer.receiver.requests) == 1:
                await peer.send(answer())
                await peer.request()
            await peer.reset()

        async with serve(script) as receiver:
            request = AttemptRequest("PUT", receiver.url(), HEADERS, BODY)
            assert isinstance(await sender.send(request, egress=LOOPBACK, deadline=LATER), Accepted)
            assert isinstance(await sender.send(request, egress=LOOPBACK, deadline=LATER), Unreachable)
        assert len(receiver.requests) == 2

    async def test_it_may_be_used_after_closing(self, sender: Sender) -> None:
        async with serve(always(answer())) as receiver:
            for _ in range(2):
                assert isinstance(await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER), Accepted)
                await sender.aclose()
        assert receiver.accepted == 2


class TestFailures:
    async def test_refused(self, sender: Sender) -> None:
        async with serve(always(answer())) as receiver:
            pass
        outcome = await sender.send(receiver.post("/?token=secret"), egress=LOOPBACK, deadline=LATER)
        assert outcome == Unreachable(Phase.CONNECT, "Connection refused")

    @pytest.mark.parametrize(
        ("sent", "phase"),
        [
            (b"", Phase.HEADERS),
            (b"HTTP/1.1 200 OK\r\n", Phase.HEADERS),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", Phase.BODY),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", Phase.BODY),
        ],
    )
    @pytest.mark.parametrize("how", ["reset", "close"])
    async def test_cut_off(self, sender: Sender, sent: bytes, phase: Phase, how: str) -> None:
        seen = anyio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            if sent:
                await peer.send(sent)
            # An RST would overtake what was sent: the sender must have read it first.
            await anyio.wait_all_tasks_blocked()
            seen.set()
            await getattr(peer, how)()

        async with serve(script) as receiver:
            outcome = await sender.send(receiver.post("/?token=secret"), egress=LOOPBACK, deadline=LATER)
        assert seen.is_set()
        assert isinstance(outcome, Unreachable)
        assert outcome.phase is phase
        assert "secret" not in outcome.detail

    @pytest.mark.parametrize(
        ("sent", "phase"),
        [
            (b"", Phase.HEADERS),
            (b"HTTP/1.1 200 OK\r\nX-Slow: ", Phase.HEADERS),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", Phase.BODY),
        ],
        ids=["silence", "dripping headers", "dripping body"],
    )
    async def test_the_deadline_cuts_off_silence_and_drips(self, sender: Sender, sent: bytes, phase: Phase) -> None:
        gone = anyio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            try:
                if not sent:
                    await peer.gone()
                await peer.send(sent)
                while True:
                    await peer.send(b"x")
                    await anyio.sleep(0.01)
            except anyio.BrokenResourceError:
                pass
            finally:
                gone.set()

        async with serve(script) as receiver:
            outcome = await sender.send(receiver.post(), egress=LOOPBACK, deadline=SOON)
            assert outcome == TimedOut(phase)
            await gone.wait()

    async def test_a_cancellation_is_no_outcome(self, sender: Sender) -> None:
        connected = anyio.Event()
        gone = anyio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            connected.set()
            await peer.gone()
            gone.set()

        async with serve(script) as receiver, anyio.create_task_group() as tasks:
            finished = False

            async def attempt() -> None:
                nonlocal finished
                await sender.send(receiver.post(), egress=LOOPBACK, deadline=LATER)
                finished = True

            tasks.start_soon(attempt)
            await connected.wait()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await gone.wait()
        assert not finished


class TestNames:
    async def test_a_name_is_resolved_and_stays_in_the_request(self, make_sender: MakeSender) -> None:
        asked: list[str] = []

        def lookup(name: str) -> Sequence[Address]:
            asked.append(name)
            return [ip_address("127.0.0.1")]

        sender = make_sender(lookup=lookup)
        async with serve(always(answer())) as receiver:
            outcome = await sender.send(receiver.post(host="receiver.example"), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Accepted)
        assert asked == ["receiver.example"]
        assert lines(receiver.requests[0])[1]["Host"] == f"receiver.example:{receiver.port}"

    async def test_localhost_works_in_development_and_nobody_is_asked(self, make_sender: MakeSender) -> None:
        sender = make_sender(lookup=names())
        async with serve(always(answer())) as receiver:
            for host in ("localhost", "app.localhost", "127.0.0.1"):
                request = receiver.post(host=host)
                outcome = await sender.send(request, egress=EgressPolicy.development(), deadline=LATER)
                assert isinstance(outcome, Accepted), outcome

    async def test_an_unknown_name_is_unreachable(self, make_sender: MakeSender) -> None:
        request = AttemptRequest("POST", "http://nobody.example/?token=secret", HEADERS, BODY)
        outcome = await make_sender(lookup=names()).send(request, egress=LOOPBACK, deadline=LATER)
        assert outcome == Unreachable(Phase.RESOLVE, "name not resolved: Name or service not known")

    async def test_a_name_server_that_hangs_is_cut_off(self, make_sender: MakeSender) -> None:
        release = threading.Event()

        def lookup(name: str) -> Sequence[Address]:
            release.wait()
            return [ip_address("127.0.0.1")]

        request = AttemptRequest("POST", "http://slow.example/", HEADERS, BODY)
        try:
            outcome = await make_sender(lookup=lookup).send(request, egress=LOOPBACK, deadline=SOON)
        finally:
            release.set()
        assert outcome == TimedOut(Phase.RESOLVE)

    async def test_when_one_address_refuses_the_next_is_tried(self, make_sender: MakeSender) -> None:
        sender = make_sender(lookup=names(dual_example=["::1", "127.0.0.1"]))
        async with serve(always(answer())) as receiver:
            outcome = await sender.send(receiver.post(host="dual.example"), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Accepted)

    async def test_one_bad_address_refuses_the_name_and_no_socket_is_opened(self, make_sender: MakeSender) -> None:
        sender = make_sender(lookup=names(mixed_example=["127.0.0.1", "10.0.0.1"]))
        async with serve(always(answer())) as receiver:
            outcome = await sender.send(receiver.post(host="mixed.example"), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Blocked)
        assert outcome.rule == "10.0.0.1 is not global: private use"
        assert receiver.accepted == 0

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "private.example"])
    async def test_what_the_policy_refuses_never_gets_a_connection(self, make_sender: MakeSender, host: str) -> None:
        sender = make_sender(lookup=names(private_example="127.0.0.1"))
        strict = EgressPolicy(schemes=("http", "https"), ports=None)
        async with serve(always(answer())) as receiver:
            outcome = await sender.send(receiver.post(host=host), egress=strict, deadline=LATER)
        assert isinstance(outcome, Blocked)
        assert receiver.accepted == 0

    async def test_a_kept_alive_connection_follows_its_name(self, make_sender: MakeSender) -> None:
        """A name that moves takes its deliveries along; one that moves into the private network gets none."""
        now: dict[str, str | Sequence[str]] = {"moving_example": "127.0.0.1"}
        sender = make_sender(lookup=lambda name: names(**now)(name))  # noqa: PLW0108 - `now` changes
        async with serve(always(answer())) as receiver:
            request = receiver.post(host="moving.example")
            assert isinstance(await sender.send(request, egress=LOOPBACK, deadline=LATER), Accepted)
            now["moving_example"] = "127.0.0.2"
            assert isinstance(await sender.send(request, egress=LOOPBACK, deadline=LATER), Accepted)
            assert receiver.accepted == 2
            now["moving_example"] = "10.0.0.1"
            assert isinstance(await sender.send(request, egress=LOOPBACK, deadline=LATER), Blocked)
        assert len(receiver.requests) == 2

    @pytest.mark.parametrize(
        "url", ["http://a@b.example/", "http://2130706433/", "ftp://a.example/", "no url", "http:///x"]
    )
    async def test_a_bad_url_is_blocked(self, sender: Sender, url: str) -> None:
        request = AttemptRequest("POST", url, HEADERS, BODY)
        assert isinstance(await sender.send(request, egress=LOOPBACK, deadline=LATER), Blocked)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class TestTLS:
    def script(self, authority: trustme.CA, *identities: str, seen: list[str | None] | None = None) -> Script:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*identities).configure_cert(context)
        if seen is not None:
            context.sni_callback = lambda _socket, name, _context: seen.append(name)

        async def script(peer: Peer) -> None:
            try:
                await peer.secure(context)
            except ssl.SSLError:
                return
            await always(answer())(peer)

        return script

    async def test_a_trusted_certificate(
        self, make_sender: MakeSender, authority: trustme.CA, trusting: ssl.SSLContext
    ) -> None:
        sender = make_sender(ssl_context=trusting, lookup=names(receiver_example="127.0.0.1"))
        seen: list[str | None] = []
        async with serve(self.script(authority, "receiver.example", seen=seen)) as receiver:
            request = receiver.post("/a", host="receiver.example", scheme="https")
            for _ in range(2):
                assert isinstance(await sender.send(request, egress=LOOPBACK, deadline=LATER), Accepted)
        assert seen == ["receiver.example"]
        assert receiver.accepted == 1
        assert lines(receiver.requests[0])[2] == BODY

    async def test_an_address_sends_no_server_name_and_must_be_in_the_certificate(
        self, make_sender: MakeSender, authority: trustme.CA, trusting: ssl.SSLContext
    ) -> None:
        sender = make_sender(ssl_context=trusting)
        seen: list[str | None] = []
        async with serve(self.script(authority, "127.0.0.1", seen=seen)) as receiver:
            request = receiver.post(scheme="https")
            assert isinstance(await sender.send(request, egress=LOOPBACK, deadline=LATER), Accepted)
        assert seen == [None]

    async def test_a_certificate_for_another_name(
        self, make_sender: MakeSender, authority: trustme.CA, trusting: ssl.SSLContext
    ) -> None:
        sender = make_sender(ssl_context=trusting, lookup=names(receiver_example="127.0.0.1"))
        async with serve(self.script(authority, "another.example")) as receiver:
            request = receiver.post(host="receiver.example", scheme="https")
            outcome = await sender.send(request, egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Unreachable)
        assert outcome.phase is Phase.TLS
        assert "certificate refused" in outcome.detail

    async def test_an_unknown_authority_by_default(self, sender: Sender, authority: trustme.CA) -> None:
        async with serve(self.script(authority, "127.0.0.1")) as receiver:
            outcome = await sender.send(receiver.post(scheme="https"), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Unreachable)
        assert outcome.phase is Phase.TLS
        assert receiver.requests == []

    async def test_a_server_that_speaks_no_tls(self, sender: Sender) -> None:
        async def script(peer: Peer) -> None:
            await peer.send(b"220 mail.example ESMTP\r\n")
            await peer.gone()

        async with serve(script) as receiver:
            outcome = await sender.send(receiver.post(scheme="https"), egress=LOOPBACK, deadline=LATER)
        assert isinstance(outcome, Unreachable)
        assert outcome.phase is Phase.TLS

    async def test_a_handshake_that_hangs(self, sender: Sender, library: str) -> None:
        async with serve(Peer.gone) as receiver:
            outcome = await sender.send(receiver.post(scheme="https"), egress=LOOPBACK, deadline=SOON)
        assert outcome == TimedOut(Phase.CONNECT if library == "aiohttp" else Phase.TLS)
