"""The proxy's view of PostgreSQL's protocol."""

from __future__ import annotations

import struct

import pytest

from fleet.wire import Message, Messages, Statements, backend


def message(kind: bytes, content: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(content) + 4) + content


def beginning(code: int, content: bytes = b"") -> bytes:
    return struct.pack("!II", len(content) + 8, code) + content


SSL = beginning(80877103)
STARTUP = beginning(196608, b"user\0callbacks\0\0")
CANCEL = beginning(80877102, b"\0\0\0\1\0\0\0\2")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_messages_are_cut_wherever_the_network_cuts_them(size: int) -> None:
    sent = SSL + STARTUP + message(b"p", b"secret\0") + message(b"Q", b"SELECT 1\0") + message(b"X")
    messages = Messages(begins=True)
    cut = [one for start in range(0, len(sent), size) for one in messages.cut(sent[start : start + size])]

    assert [one.kind for one in cut] == [b"", b"", b"p", b"Q", b"X"]
    assert b"".join(one.data for one in cut) == sent
    assert [one.asks_for_encryption for one in cut] == [True, False, False, False, False]


def test_who_is_let_in_or_asks_to_sync_is_told_when_the_server_is_ready() -> None:
    expected = {
        SSL: False,
        CANCEL: False,
        STARTUP: True,
        message(b"S"): True,
        message(b"Q", b"\0"): True,
        message(b"H"): False,
        message(b"E", b"\0\0\0\0\0"): False,
    }
    for data, expects in expected.items():
        (one,) = Messages(begins=len(data) > 7 and data[0] == 0).cut(data)
        assert one.expects_ready is expects, one


def test_a_statement_is_known_by_its_name_when_it_is_executed_again() -> None:
    statements = Statements()

    def executed(kind: bytes, content: bytes) -> str | None:
        (one,) = Messages().cut(message(kind, content))
        return statements.executed(one)

    assert executed(b"P", b"first\0SELECT 1\0\0\0") is None
    assert executed(b"P", b"second\0SELECT 2\0\0\0") is None
    assert executed(b"B", b"\0first\0\0\0\0\0\0\0") is None
    assert executed(b"E", b"\0\0\0\0\0") == "SELECT 1"
    assert executed(b"B", b"\0second\0\0\0\0\0\0\0") is None
    assert executed(b"E", b"\0\0\0\0\0") == "SELECT 2"
    assert executed(b"B", b"portal\0unseen\0\0\0\0\0\0\0") is None
    assert executed(b"E", b"portal\0\0\0\0\0") == ""
    assert executed(b"Q", b"SELECT 3\0") == "SELECT 3"
    assert executed(b"S", b"") is None


def test_the_servers_process_is_told() -> None:
    assert backend(Message(b"K", message(b"K", struct.pack("!II", 4711, 99)))) == 4711
