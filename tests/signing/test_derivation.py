"""Secrets that are derived: RFC 5869's own examples, and that nobody's is anybody else's."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.errors import ConfigurationError
from callback_middleware.signing.derivation import Kind, Master, Recipient, hkdf_expand, hkdf_extract

TEXT = b64encode(bytes(range(32))).decode()
MASTER = Master.of(TEXT)

RECIPIENTS = st.builds(Recipient, st.sampled_from(Kind), st.text())


@pytest.mark.parametrize(
    ("material", "salt", "info", "length", "pseudorandom", "output"),
    [
        pytest.param(
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            id="A.1",
        ),
        pytest.param(
            bytes(range(0x50)).hex(),
            bytes(range(0x60, 0xB0)).hex(),
            bytes(range(0xB0, 0x100)).hex(),
            82,
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
            id="A.2",
        ),
        pytest.param(
            "0b" * 22,
            "",
            "",
            42,
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            id="A.3",
        ),
    ],
)
def test_hkdf_gives_what_the_specification_says(
    *, material: str, salt: str, info: str, length: int, pseudorandom: str, output: str
) -> None:
    """RFC 5869, appendix A."""
    extracted = hkdf_extract(bytes.fromhex(salt), bytes.fromhex(material))
    assert extracted.hex() == pseudorandom
    assert hkdf_expand(extracted, bytes.fromhex(info), length).hex() == output


def test_a_secret_that_was_shown_once_is_the_same_in_every_release() -> None:
    """If this fails every receiver's secret changes: it must not."""
    owner, origin = Recipient(Kind.OWNER, "acme"), Recipient(Kind.ORIGIN, "https://acme.example:443")

    assert MASTER.secret(owner).secret.hex() == "b6bd53ee2edebf0b4cfd17468a55cd6efa8b5a6371f643f7e9b3bbe111963352"
    assert MASTER.secret(origin).secret.hex() == "190dc36ac4d3718e9880f00d17508db41b24f2724e5d397cbefed6ee358f87b1"
    assert MASTER.key_pair(owner).public == "whpk_+b+ILSuc3zjB3Gc/5l/GUWtXkIM6D+ztSEnbjH6VeMI="


@given(RECIPIENTS, RECIPIENTS)
def test_everybody_has_a_secret_of_their_own(one: Recipient, other: Recipient) -> None:
    assert (MASTER.secret(one) == MASTER.secret(other)) == (one == other)


def test_an_owner_who_is_named_like_an_origin_has_another_secret() -> None:
    name = "https://victim.example:443"

    assert MASTER.secret(Recipient(Kind.OWNER, name)) != MASTER.secret(Recipient(Kind.ORIGIN, name))
    assert MASTER.secret(Recipient(Kind.OWNER, f"\x00origin\x00{name}")) != MASTER.secret(Recipient(Kind.ORIGIN, name))


def test_half_of_a_surrogate_pair_is_a_name_like_any_other() -> None:
    assert MASTER.secret(Recipient(Kind.OWNER, "\ud800")) != MASTER.secret(Recipient(Kind.OWNER, "\ud801"))


def test_a_key_pair_says_nothing_of_the_secret() -> None:
    recipient = Recipient(Kind.OWNER, "acme")
    seed = MASTER.key_pair(recipient).private.private_bytes_raw()

    assert seed != MASTER.secret(recipient).secret


def test_another_master_derives_other_secrets() -> None:
    other = Master.of(b64encode(bytes(32)).decode())
    recipient = Recipient(Kind.OWNER, "acme")

    assert other.secret(recipient) != MASTER.secret(recipient)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("whsec_" + TEXT, "without whsec_", id="a receiver's secret"),
        pytest.param(b64encode(bytes(31)).decode(), "has 31 bytes", id="too short"),
        pytest.param("correct horse battery staple", "the master is not base64", id="a password"),
        pytest.param(TEXT + "\n", "strip the white space around it", id="a line of a file"),
        pytest.param(TEXT.rstrip("="), "not base64", id="no padding"),
        pytest.param("é" * 44, "not base64", id="no ASCII"),
    ],
)
def test_what_is_no_master_is_refused_and_not_repeated(text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as refused:
        Master.of(text)

    assert text.strip() not in str(refused.value)


def test_a_master_shows_nothing_of_itself() -> None:
    assert MASTER.pseudorandom.hex() not in repr(MASTER)
    assert repr(MASTER.pseudorandom) not in repr(MASTER)
