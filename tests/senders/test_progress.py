"""What becomes of an attempt without an answer, and how it is told."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import pytest

from callback_middleware.errors import EgressRefused
from callback_middleware.outcomes import Blocked, Phase, Unreachable
from callback_middleware.senders.progress import AttemptFailed, Progress, failed, reason


def test_failures_become_outcomes_with_the_phase_that_was_reached() -> None:
    progress = Progress(Phase.TLS)
    assert failed(EgressRefused("rule", "how"), progress) == Blocked("rule", "how")
    assert failed(AttemptFailed("detail"), progress) == Unreachable(Phase.TLS, "detail")
    reset = ConnectionResetError(errno.ECONNRESET, "https://u:p@host/?token=secret")
    assert failed(reset, progress) == Unreachable(Phase.TLS, os.strerror(errno.ECONNRESET))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "name not resolved: Name or service not known",
        ),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] secret"), "TLS failed: connection closed"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_reasons_are_the_systems_own_words(error: OSError, words: str) -> None:
    assert reason(error) == words
