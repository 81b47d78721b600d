"""The reference libraries, each behind the same two verbs: what we sign they must verify, and the other way round."""

from __future__ import annotations

import json
import os
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import standardwebhooks
import svix.webhooks

HERE = Path(__file__).parent


class Refused(Exception):
    """The reference library does not believe it."""


class Reference(Protocol):
    """One reference library."""

    def sign(self, secret: str, identifier: str, timestamp: datetime, body: bytes) -> str:
        """The header that it would send."""
        ...

    def verify(self, secret: str, headers: Mapping[str, str], body: bytes) -> None:
        """Return if it believes this. Raises :class:`Refused` if not."""
        ...


class StandardWebhooksOfPyPI:
    def sign(self, secret: str, identifier: str, timestamp: datetime, body: bytes) -> str:
        return standardwebhooks.Webhook(secret).sign(identifier, timestamp, body.decode())

    def verify(self, secret: str, headers: Mapping[str, str], body: bytes) -> None:
        try:
            standardwebhooks.Webhook(secret).verify(body, dict(headers), json_parse=False)
        except standardwebhooks.WebhookVerificationError as error:
            raise Refused(str(error)) from error


class SvixOfPyPI:
    def sign(self, secret: str, identifier: str, timestamp: datetime, body: bytes) -> str:
        return svix.webhooks.Webhook(secret).sign(identifier, timestamp, body.decode())

    def verify(self, secret: str, headers: Mapping[str, str], body: bytes) -> None:
        try:
            svix.webhooks.Webhook(secret).verify(body, dict(headers))
        except svix.webhooks.WebhookVerificationError as error:
            raise Refused(str(error)) from error


class StandardWebhooksOfNpm:
    """In a Node process of its own for every question.

    Args:
        modules: The folder ``node_modules`` that has it.
    """

    def __init__(self, modules: Path) -> None:
        self._modules = modules

    def sign(self, secret: str, identifier: str, timestamp: datetime, body: bytes) -> str:
        answer = self._ask(secret=secret, id=identifier, seconds=int(timestamp.timestamp()), body=body)
        return str(answer["signature"])

    def verify(self, secret: str, headers: Mapping[str, str], body: bytes) -> None:
        answer = self._ask(secret=secret, headers=dict(headers), body=body)
        if "refused" in answer:
            raise Refused(answer["refused"])

    def _ask(self, *, body: bytes, **question: Any) -> Any:
        node = subprocess.run(  # noqa: S603 - our own command
            ["node", str(HERE / "reference.cjs")],  # noqa: S607 - wherever it is installed
            input=json.dumps({**question, "body": b64encode(body).decode()}),
            env=os.environ | {"NODE_PATH": str(self._modules)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert node.returncode == 0, node.stderr
        return json.loads(node.stdout)
