"""``make demo``: signed callbacks arrive at once, later, after a crash. ``--serve`` leaves both services running."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx

from callback_middleware import SQLiteOutbox, StandardWebhooksSigner
from demo.services import DemoFailed, Service, service

API_PORT, DEVELOPER_PORT = 8000, 8001
DEVELOPER = "acme"

SMALL = {"id": "2expen51ve", "title": "A website", "customer": "Mr. Richie Rich", "total": 9999.10}
LARGE = {"id": "1arge", "title": "A cathedral", "customer": "Mr. Richie Rich", "total": 2500000}
UNLUCKY = {"id": "un1ucky", "title": "A raft", "customer": "Mr. Richie Rich", "total": 13}
FORGED = {"id": "f0rged", "title": "A castle in the air", "customer": "Nobody", "total": 1}
PRYING = {"id": "pry1ng", "title": "A key", "customer": "Mallory", "total": 1}
PAID = {"description": "Payment celebration", "paid": True}

METADATA = "http://169.254.169.254/latest/meta-data"
"""Where a cloud's machines find their own credentials: the first thing that whoever types URLs tries."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--serve", action="store_true", help=f"on ports {API_PORT} and {DEVELOPER_PORT}, until Ctrl-C")
    serve = parser.parse_args().serve
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The services write too, and a story is told in order.
        sys.stdout.reconfigure(line_buffering=True)
    api_port, developer_port = (API_PORT, DEVELOPER_PORT) if serve else (0, 0)
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="callbacks-")))
            outbox = folder / "callbacks.db"
            master = b64encode(os.urandom(32)).decode()
            secret = {"CALLBACKS_DB": str(outbox), "CALLBACKS_MASTER": master}
            api = stack.enter_context(service("demo.invoices:app", "the API", api_port, lambda _: secret))
            developer = stack.enter_context(
                service(
                    "demo.developer:app", "the developer's service", developer_port, lambda url: secrets_of(master, url)
                )
            )
            if serve:
                return leave_running(api.url, developer.url)
            with httpx.Client(timeout=15, headers={"developer": DEVELOPER}) as client:
                Story(client, api, developer.url, outbox).tell()
    except DemoFailed as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # How --serve is meant to end.
        return 0 if serve else 130
    print("\nEverything happened as documented.")
    return 0


def secrets_of(master: str, url: str) -> dict[str, str]:
    """What the API's author shows this developer, who has proved to be at this URL; once, and not by the API."""
    signer = StandardWebhooksSigner(master=master)
    return {"WEBHOOK_SECRETS": f"{signer.secret_of(url=url)} {signer.secret_of(owner=DEVELOPER)}"}


class Story:
    """What the external developer does and sees."""

    def __init__(self, client: httpx.Client, api: Service, developer: str, outbox: Path) -> None:
        self._client = client
        self._api = api
        self._developer = developer
        self._outbox = outbox
        self._step = 0
        self._heard = 0

    def tell(self) -> None:
        self.say("The external developer creates an invoice, and says where to hear of it")
        self.create(SMALL)
        self.say("The money is collected, and the documented callback arrives at the developer's service")
        self.hear(SMALL)
        self.say("The state of the invoice")
        self.read(SMALL, "paid")

        self.say("A large invoice is not collected at once: where to hear of it is kept, and nothing is sent yet")
        self.create(LARGE)
        self.read(LARGE, "open")
        self.say("Later the bank pays it, and knows nothing of the developer: the callback arrives all the same")
        self.pay(LARGE)
        self.hear(LARGE)

        self.say("The developer's service has a bad day: the callback of the next invoice is refused")
        self.maintain(under=True)
        self.create(UNLUCKY)
        first = self.hear(UNLUCKY, {"detail": "under maintenance"})
        self.say("And the API is killed (kill -9) before it can try again. The callback is in its file")
        self._api.kill()
        self.maintain(under=False)
        self.say("The API is started again, and the callback arrives, under the id that it had")
        self._api.start()
        if self.hear(UNLUCKY) != first:
            raise DemoFailed(f"the callback should have had the id {first} again")

        self.say("Somebody else tells the developer's service that an invoice is paid, and is not believed")
        self.forge(FORGED)
        self.say("Somebody has the API call a machine's own metadata service: that is refused, and nothing is sent")
        before = self.deliveries()
        self.create(PRYING, METADATA)
        if self.deliveries() != before:
            raise DemoFailed(f"nothing should have been sent to {METADATA}")
        print(f"   Deliveries in the API's outbox: {before}, as before")

    def say(self, sentence: str) -> None:
        self._step += 1
        print(f"\n{self._step}. {sentence}")

    def create(self, invoice: dict[str, Any], callback_url: str | None = None) -> None:
        url = f"{self._api.url}/invoices/?callback_url={callback_url or f'{self._developer}/events'}"
        print(f"   → POST {url}\n     {json.dumps(invoice)}")
        self.show(self._client.post(url, json=invoice))

    def pay(self, invoice: dict[str, Any]) -> None:
        url = f"{self._api.url}/invoices/{invoice['id']}/payment"
        print(f"   → POST {url}")
        self.show(self._client.post(url))

    def read(self, invoice: dict[str, Any], state: str) -> None:
        url = f"{self._api.url}/invoices/{invoice['id']}"
        print(f"   → GET {url}")
        answer = self.show(self._client.get(url))
        if answer["state"] != state:
            raise DemoFailed(f"the invoice should be {state}")

    def hear(self, invoice: dict[str, Any], answer: dict[str, Any] | None = None) -> str:
        """Show the next callback that came, which must be this invoice's. Returns its id."""
        url = f"{self._developer}/notifications/{self._heard}"
        self._heard += 1
        response = self._client.get(url, params={"wait": 10})
        if response.status_code != 200:
            raise DemoFailed(f"the callback did not arrive within 10 s: {response.text}")
        heard = response.json()
        print(f"   → {heard['method']} {heard['path']}\n     webhook-id: {heard['id']}")
        print(f"     signed at {heard['signed_at']}, and verified\n     {json.dumps(heard['body'])}")
        print(f"   ← {json.dumps(heard['answer'])}")
        path = f"/events/invoices/{invoice['id']}"
        wanted = {"method": "POST", "path": path, "body": PAID, "answer": answer or {"ok": True}}
        if {key: heard[key] for key in wanted} != wanted:
            raise DemoFailed(f"the callback should have been {wanted}")
        return str(heard["id"])

    def forge(self, invoice: dict[str, Any]) -> None:
        """Write to the developer as the API would, but for the secret, which is anybody's guess."""
        url = f"{self._developer}/events/invoices/{invoice['id']}"
        headers = {
            "webhook-id": str(uuid4()),
            "webhook-timestamp": str(int(time.time())),  # noqa: TID251 - whoever forges has a clock too
            "webhook-signature": f"v1,{b64encode(os.urandom(32)).decode()}",
        }
        print(f"   → POST {url}\n     {json.dumps(headers)}\n     {json.dumps(PAID)}")
        self.show(self._client.post(url, headers=headers, json=PAID), 401)

    def deliveries(self) -> int:
        """How many callbacks the API ever owed anybody, as its file says."""
        return sum(anyio.run(SQLiteOutbox(self._outbox).counts).values())

    def maintain(self, *, under: bool) -> None:
        self._client.put(f"{self._developer}/maintenance", params={"under": under}).raise_for_status()

    def show(self, response: httpx.Response, status: int = 200) -> Any:
        print(f"   ← {response.status_code} {response.reason_phrase}\n     {response.text}")
        if response.status_code != status:
            raise DemoFailed(f"{response.request.method} {response.request.url} should have answered {status}")
        return response.json()


def leave_running(api: str, developer: str) -> int:
    print(f"\nThe API's documentation, with its callbacks:  {api}/docs")
    print(f"The external developer's service:             {developer}/docs\n")
    print("To see a callback arrive:\n")
    print(
        f"  curl -X POST '{api}/invoices/?callback_url={developer}/events' -H 'content-type: application/json' \\\n"
        f"       -H 'developer: {DEVELOPER}' -d '{json.dumps(SMALL)}'\n"
    )
    print("Ctrl-C ends both.", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main())
