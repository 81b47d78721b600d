"""``make demo`` shows what it says it shows, and ends by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

from servers import PATIENCE, UVICORN, serving

ROOT = Path(__file__).parent.parent.parent


def test_the_demo_shows_signed_callbacks_at_once_later_and_after_a_crash_and_what_is_refused() -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    shown = iter(demo.stdout.splitlines())
    for text in (
        '{"msg":"Invoice received"}',
        "POST /events/invoices/2expen51ve",
        ", and verified",
        '{"description": "Payment celebration", "paid": true}',
        '{"ok": true}',
        "Later the bank pays it",
        "POST /events/invoices/1arge",
        ", and verified",
        '{"ok": true}',
        "POST /events/invoices/un1ucky",
        "under maintenance",
        "kill -9",
        "POST /events/invoices/un1ucky",
        ", and verified",
        '{"ok": true}',
        "is not believed",
        "401 Unauthorized",
        "webhook-signature does not match",
        "callback_url=http://169.254.169.254/latest/meta-data",
        "callback_middleware: callback invoice_notification of POST /invoices/ is not sent: refused",
        '{"msg":"Invoice received"}',
        "Deliveries in the API's outbox: 3, as before",
        "Everything happened as documented.",
    ):
        assert any(text in line for line in shown), f"{text} is not there, or not in this order:\n{demo.stdout}"
    # It speaks when it likes, and not in the order of the story.
    verified = [line for line in demo.stdout.splitlines() if "the developer's service: the signature of" in line]
    assert len(verified) == demo.stdout.count("POST /events/") == 4, demo.stdout


def test_the_api_of_the_demo_documents_its_callback() -> None:
    with serving(UVICORN, "demo.invoices:app", directory=ROOT) as server:
        document = httpx.get(f"{server.url}/openapi.json", trust_env=False).json()
    (callback,) = document["paths"]["/invoices/"]["post"]["callbacks"].values()
    assert list(callback) == ["{$callback_url}/invoices/{$request.body.id}"]
    body = callback["{$callback_url}/invoices/{$request.body.id}"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/InvoiceEvent"}
