"""Secrets as text: what is one, what is none, and that neither is ever shown."""

from __future__ import annotations

import sys
from base64 import b64encode

import pytest

from callback_middleware.errors import ConfigurationError
from callback_middleware.signing.keys import Ed25519Key, HmacKey, keys_of, secret_text

SECRET = "whsec_" + b64encode(bytes(range(24))).decode()

# RFC 8032, 7.1, test 3.
SEED = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
PUBLIC = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
SIGNATURE = bytes.fromhex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)
PRIVATE = "whsk_" + b64encode(SEED).decode()


def test_a_symmetric_secret_signs_with_hmac() -> None:
    """RFC 4231, 4.5."""
    (key,) = keys_of(secret_text(bytes(range(1, 26))))
    digest = bytes.fromhex("82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b")

    assert key.sign(b"\xcd" * 50) == "v1," + b64encode(digest).decode()


def test_a_private_key_signs_with_ed25519() -> None:
    _, key = keys_of([SECRET, PRIVATE])

    assert key.sign(b"\xaf\x82") == "v1a," + b64encode(SIGNATURE).decode()
    assert isinstance(key, Ed25519Key)
    assert key.public == "whpk_" + b64encode(PUBLIC).decode()


def test_a_private_key_may_be_followed_by_its_public_one() -> None:
    _, key = keys_of([SECRET, "whsk_" + b64encode(SEED + PUBLIC).decode()])

    assert key.sign(b"\xaf\x82") == "v1a," + b64encode(SIGNATURE).decode()


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_secret_of_the_specifications_size_is_taken(size: int) -> None:
    (key,) = keys_of(secret_text(bytes(size)))

    assert key == HmacKey(bytes(size))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "begins neither with", id="empty"),
        pytest.param(b64encode(bytes(32)).decode(), "begins neither with whsec_", id="no prefix"),
        pytest.param("WHSEC_" + b64encode(bytes(32)).decode(), "begins neither with whsec_", id="another prefix"),
        pytest.param("whsec_", "not base64", id="nothing behind the prefix"),
        pytest.param("whsec_" + "not*base64*" * 4, "not base64", id="no base64"),
        pytest.param("whsec_" + "é" * 32, "not base64", id="no ASCII"),
        pytest.param("whsec_" + b64encode(b"\xff" * 32).decode().replace("/", "_"), "not base64", id="URL-safe base64"),
        pytest.param("whsec_" + b64encode(bytes(32)).decode().rstrip("="), "not base64", id="no padding"),
        pytest.param("whsec_" + "A" * 42 + "B=", "not base64", id="spare bits"),
        pytest.param(SECRET + "\n", "strip the white space", id="a line of a file"),
        pytest.param("whsec_" + b64encode(bytes(23)).decode(), "has 23 bytes", id="too short"),
        pytest.param("whsec_" + b64encode(bytes(65)).decode(), "has 65 bytes", id="too long"),
        pytest.param("whsk_" + "not*base64*" * 4, "not base64", id="a private key that is no base64"),
        pytest.param("whsk_" + b64encode(bytes(31)).decode(), "has 31 bytes", id="a private key that is too short"),
        pytest.param("whsk_" + b64encode(SEED + bytes(32)).decode(), "belong together", id="two halves of two keys"),
        pytest.param("whpk_" + b64encode(PUBLIC).decode(), "is public", id="a public key"),
    ],
)
def test_what_is_no_secret_is_refused_and_not_repeated(text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as refused:
        keys_of([SECRET, text])

    for secret in (SECRET, text.strip()):
        encoded = secret.rpartition("_")[2]
        assert not encoded or encoded not in str(refused.value)


@pytest.mark.parametrize("secrets", [[], [PRIVATE]])
def test_v1a_alone_is_refused_because_the_reference_libraries_verify_v1(secrets: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="v1a alone is verified by neither reference library"):
        keys_of(secrets)


def test_bytes_are_no_secret() -> None:
    with pytest.raises(ConfigurationError, match="given as text, as it is written, and not as bytes") as refused:
        keys_of([b"whsec_secret"])  # type: ignore[list-item] # what a mistake looks like

    assert "whsec_secret" not in str(refused.value)


def test_without_cryptography_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'callback_middleware\[signing\]'"):
        keys_of([SECRET, PRIVATE])


def test_keys_show_nothing_of_themselves() -> None:
    for key in keys_of([SECRET, PRIVATE]):
        assert "\\x" not in repr(key)
        assert repr(key).endswith(f"object at {id(key):#x}>")
