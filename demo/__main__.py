"""``make demo``: an invoice is created, and its callback arrives. ``--serve`` leaves both services running."""

from __future__ import annotations

import argparse
import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx

START_SECONDS = 30
API_PORT, DEVELOPER_PORT = 8000, 8001

INVOICE = {"id": "2expen51ve", "title": "A website", "customer": "Mr. Richie Rich", "total": 9999.10}
LARGE = {"id": "1arge", "title": "A cathedral", "customer": "Mr. Richie Rich", "total": 2500000}


class DemoFailed(Exception):
    """Something that the demo shows did not happen."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--serve", action="store_true", help=f"on ports {API_PORT} and {DEVELOPER_PORT}, until Ctrl-C")
    serve = parser.parse_args().serve
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The services write too, and a story is told in order.
        sys.stdout.reconfigure(line_buffering=True)
    api_port, developer_port = (API_PORT, DEVELOPER_PORT) if serve else (0, 0)
    try:
        with ExitStack() as services:
            api = services.enter_context(service("demo.invoices:app", "the API", api_port))
            developer = services.enter_context(service("demo.developer:app", "the developer's service", developer_port))
            if serve:
                return leave_running(api, developer)
            show(api, developer)
    except DemoFailed as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # How --serve is meant to end.
        return 0 if serve else 130
    print("\nEverything happened as documented.")
    return 0


def show(api: str, developer: str) -> None:
    """What the external developer does and sees."""
    with httpx.Client(timeout=15) as client:
        say(1, "The external developer creates an invoice, and says where to hear of it")
        answer = post(client, f"{api}/invoices/", {"callback_url": f"{developer}/events"}, INVOICE)
        expect(answer, 200)
        say(2, "The money is collected, and the documented callback arrives at the developer's service")
        hear(client, developer, 0, "/events/invoices/2expen51ve")
        say(3, "The state of the invoice")
        read(client, f"{api}/invoices/2expen51ve", "paid")

        say(4, "A large invoice is not collected at once: no callback yet")
        expect(post(client, f"{api}/invoices/", {"callback_url": f"{developer}/events"}, LARGE), 200)
        read(client, f"{api}/invoices/1arge", "open")
        say(5, "It is paid, and the callback of that operation arrives")
        expect(post(client, f"{api}/invoices/1arge/payment", {"callback_url": f"{developer}/events"}, None), 200)
        hear(client, developer, 1, "/events/invoices/1arge")


def post(client: httpx.Client, url: str, query: dict[str, str], body: Any) -> httpx.Response:
    asked = f"{url}?" + "&".join(f"{name}={value}" for name, value in query.items())
    print(f"   → POST {asked}")
    if body is not None:
        print(f"     {json.dumps(body)}")
    answer = client.post(url, params=query, json=body)
    print(f"   ← {answer.status_code} {answer.reason_phrase}\n     {answer.text}")
    return answer


def hear(client: httpx.Client, developer: str, number: int, path: str) -> None:
    answer = client.get(f"{developer}/notifications/{number}", params={"wait": 10})
    if answer.status_code != 200:
        raise DemoFailed(f"the callback did not arrive within 10 s: {answer.text}")
    heard = answer.json()
    print(f"   → {heard['method']} {heard['path']}\n     {json.dumps(heard['body'])}")
    print(f"   ← {json.dumps(heard['answer'])}")
    wanted = {"method": "POST", "path": path, "body": {"description": "Payment celebration", "paid": True}}
    if {key: heard[key] for key in wanted} != wanted:
        raise DemoFailed(f"the callback should have been {wanted}")


def read(client: httpx.Client, url: str, state: str) -> None:
    print(f"   → GET {url}")
    answer = client.get(url)
    print(f"   ← {answer.status_code} {answer.reason_phrase}\n     {answer.text}")
    expect(answer, 200)
    if answer.json()["state"] != state:
        raise DemoFailed(f"the invoice should be {state}")


def expect(answer: httpx.Response, status: int) -> None:
    if answer.status_code != status:
        raise DemoFailed(f"{answer.request.method} {answer.request.url} should have answered {status}")


def say(number: int, sentence: str) -> None:
    print(f"\n{number}. {sentence}")


def leave_running(api: str, developer: str) -> int:
    print(f"\nThe API's documentation, with its callbacks:  {api}/docs")
    print(f"The external developer's service:             {developer}/docs\n")
    print("To see a callback arrive:\n")
    print(
        f"  curl -X POST '{api}/invoices/?callback_url={developer}/events' -H 'content-type: application/json' \\\n"
        f"       -d '{json.dumps(INVOICE)}'\n"
    )
    print("Ctrl-C ends both.", flush=True)
    while True:
        time.sleep(3600)


@contextmanager
def service(application: str, name: str, port: int) -> Iterator[str]:
    """One uvicorn process on loopback, until the block ends. Yields its URL; port 0 means any that is free."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise DemoFailed(f"{name} cannot listen on port {port}: {error.strerror}") from None
        port = listening.getsockname()[1]
        descriptor = listening.fileno()
        command = [sys.executable, "-m", "uvicorn", application, "--fd", str(descriptor), "--log-level", "warning"]
        process = subprocess.Popen(command, pass_fds=[descriptor])  # noqa: S603 - our own command
    try:
        wait_for(process, name, port)
        print(f"{name[0].upper()}{name[1:]} listens at http://127.0.0.1:{port}", flush=True)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(process: subprocess.Popen[bytes], name: str, port: int) -> None:
    """Until it accepts connections; a process that ended is a failure."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise DemoFailed(f"{name} ended with status {process.returncode} instead of listening")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise DemoFailed(f"{name} did not come up within {START_SECONDS} s")


if __name__ == "__main__":
    sys.exit(main())
