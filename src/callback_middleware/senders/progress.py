"""How far an attempt came, and what becomes of it when it goes no further."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from typing import assert_never

from callback_middleware.errors import EgressRefused
from callback_middleware.outcomes import Blocked, Outcome, Phase, Unreachable

__all__ = ["AttemptFailed", "Progress", "failed", "reason"]


@dataclass(slots=True)
class Progress:
    """Where one attempt is. Whoever carries it on moves the phase, so that a deadline can say what it cut off."""

    phase: Phase = Phase.RESOLVE


class AttemptFailed(Exception):
    """There will be no answer. ``detail`` says why, and repeats nothing that the URL or the receiver said."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


def failed(error: EgressRefused | AttemptFailed | OSError, progress: Progress) -> Outcome:
    """The outcome of an attempt that ended without an answer."""
    match error:
        case EgressRefused():
            return Blocked(error.rule, error.how_to_allow)
        case AttemptFailed():
            return Unreachable(progress.phase, error.detail)
        case OSError():
            return Unreachable(progress.phase, reason(error))
        case _:
            assert_never(error)


def reason(error: OSError) -> str:
    """Why a socket failed, in the operating system's or OpenSSL's own words and nobody else's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {getattr(error, 'reason', None) or 'connection closed'}"  # absent where Python made it
    if isinstance(error, socket.gaierror):
        return f"name not resolved: {error.strerror}"
    return os.strerror(error.errno) if error.errno is not None else type(error).__name__
