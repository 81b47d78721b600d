"""What a machine may lack. A test that needs it is skipped, with a sentence; where nothing may be skipped, it fails."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(sentence: str) -> NoReturn:
    """End the test that runs: it cannot be made on this machine.

    Args:
        sentence: What is lacking, and how to get it.
    """
    if os.environ.get("CALLBACK_TEST_NO_SKIPS") == "1":
        pytest.fail(f"{sentence} (CALLBACK_TEST_NO_SKIPS=1: nothing may be skipped here)", pytrace=False)
    pytest.skip(sentence)
