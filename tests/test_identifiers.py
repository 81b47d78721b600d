"""UUID version 7: RFC 9562, section 5.7."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.identifiers import uuid7

TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive by contract
ENTROPY = st.binary(min_size=10, max_size=10)


def test_the_example_of_the_specification() -> None:
    """RFC 9562, appendix A.6."""
    now = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
    entropy = bytes.fromhex("0cc3" + "18c4dc0c0c07398f")
    assert str(uuid7(now, entropy)) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(TIMES, ENTROPY)
def test_version_and_variant_are_those_of_the_specification(now: datetime, entropy: bytes) -> None:
    made = uuid7(now, entropy)
    assert made.version == 7
    assert made.int >> 62 & 0b11 == 0b10


@given(TIMES, ENTROPY, ENTROPY)
def test_a_later_millisecond_is_a_greater_identifier(now: datetime, first: bytes, second: bytes) -> None:
    later = now.replace(year=2000) + timedelta(milliseconds=1)
    assert uuid7(now.replace(year=2000), first) < uuid7(later, second)


@given(TIMES, ENTROPY, ENTROPY)
def test_other_entropy_is_another_identifier(now: datetime, first: bytes, second: bytes) -> None:
    used = (1 << 80) - 1 - (0xF << 76 | 0b11 << 62)
    same = int.from_bytes(first, "big") & used == int.from_bytes(second, "big") & used
    assert (uuid7(now, first) == uuid7(now, second)) == same
