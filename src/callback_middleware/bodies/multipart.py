"""The text parts of ``multipart/form-data`` (RFC 7578), read in memory. Needs the extra ``multipart``."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from callback_middleware.bodies.media_types import parse_media_type


@dataclass(frozen=True, slots=True)
class TextPart:
    """One field of a form that is no file.

    Attributes:
        name: The field's name.
        content_type: The part's own content type, "" where it has none.
        content: Its bytes.
    """

    name: str
    content_type: str
    content: bytes


@dataclass(slots=True)
class _Collector:
    """What the parser reports about the part that it is in, and the text parts before it."""

    parts: list[TextPart] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    content: bytearray = field(default_factory=bytearray)
    complete: bool = False

    def on_part_begin(self) -> None:
        self.headers = {}
        self.content = bytearray()

    def on_header_begin(self) -> None:
        self.header = bytearray()
        self.value = bytearray()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def on_header_end(self) -> None:
        self.headers[self.header.decode("latin-1").lower()] = self.value.decode("utf-8", "replace")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.content += data[start:end]

    def on_part_end(self) -> None:
        _, options = parse_media_type(self.headers.get("content-disposition", ""))
        if "name" in options and "filename" not in options and "filename*" not in options:
            self.parts.append(TextPart(options["name"], self.headers.get("content-type", ""), bytes(self.content)))

    def on_end(self) -> None:
        self.complete = True


def text_parts(content: bytes, boundary: str) -> list[TextPart]:
    """The form's text parts, in order.

    Raises:
        ValueError: The boundary is missing, or the body does not keep to it; the message quotes nothing of it.
    """
    if not boundary:
        raise ValueError("its content type has no boundary")
    collector = _Collector()
    try:
        parser = MultipartParser(
            boundary.encode("latin-1", "replace"),
            {
                "on_part_begin": collector.on_part_begin,
                "on_part_data": collector.on_part_data,
                "on_part_end": collector.on_part_end,
                "on_header_begin": collector.on_header_begin,
                "on_header_field": collector.on_header_field,
                "on_header_value": collector.on_header_value,
                "on_header_end": collector.on_header_end,
                "on_end": collector.on_end,
            },
        )
        parser.write(content)
        parser.finalize()
    except FormParserError:
        raise ValueError("it is no multipart/form-data") from None
    if not collector.complete:
        raise ValueError("it ends before its last boundary")
    return collector.parts
