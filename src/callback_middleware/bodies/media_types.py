"""Header values of the form ``value; name=value``: media types (RFC 9110, 8.3.1), dispositions (RFC 6266)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_OPTION: Final = re.compile(r';[ \t]*(?:([^;="\s]+)=(?:"((?:[^"\\]|\\.)*)"|([^;"\s]*))[ \t]*(?![^;])|[^;]*)')


def parse_media_type(header: str) -> tuple[str, Mapping[str, str]]:
    """The value and the names of its options in lower case, the options' values as they are.

    The first of several options with one name counts; a malformed one is skipped. Never raises.
    """
    essence = header.partition(";")[0]
    options: dict[str, str] = {}
    position = len(essence)
    while (match := _OPTION.match(header, position)) is not None:
        name, quoted, token = match.groups()
        if name is not None:
            value = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            options.setdefault(name.lower(), value)
        position = match.end()
    return essence.strip().lower(), options
