"""What the clients of the tests' invoice services ask."""

from __future__ import annotations

import httpx

from receivers import Receiver
from servers import Server


def create(web: Server, path: str, receiver: Receiver, number: str) -> httpx.Response:
    """Create an invoice on one of a service's paths, with a callback to a receiver."""
    parameters = {"callback_url": receiver.url}
    with httpx.Client(trust_env=False, timeout=30) as client:
        return client.post(f"{web.url}/{path}/", params=parameters, json={"id": number})
