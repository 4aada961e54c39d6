"""The lines of a file: of any length, in whatever encoding, in little memory.

A line ends with LF or CRLF and nothing else: U+2028 and a form feed are text within one.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from recourse.declare.validation import LARGEST
from recourse.errors import RecourseError

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # begins as that of UTF-16 does
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


class BadFileError(RecourseError):
    """Nothing of the file can be imported; the message says what it must be."""


class BadLineError(RecourseError):
    """A line cannot be read; the message says what it must be."""


class Line(NamedTuple):
    """A line as it is in the file.

    Attributes:
        number: Its number, from 1.
        raw: Its bytes without its end; None where they are more than a request may have.
    """

    number: int
    raw: bytes | None

    @property
    def text(self) -> str:
        """Its text.

        Raises:
            BadLineError: It is too long, not UTF-8, or has NULs.
        """
        if self.raw is None:
            raise BadLineError(f"must be at most {LARGEST} bytes, and is longer")
        if (at := self.raw.find(b"\0")) >= 0:
            raise BadLineError(f"must not have NULs, has one at byte {at + 1}")
        try:
            return self.raw.decode()
        except UnicodeDecodeError as problem:
            found = self.raw[problem.start]
            raise BadLineError(
                f"must be UTF-8, got 0x{found:02X} at byte {problem.start + 1}: "
                "save the file as UTF-8"
            ) from None


def lines(chunks: Iterable[bytes]) -> Iterator[Line]:
    r"""The lines of a file that comes in chunks, without a byte order mark of UTF-8.

    ::

        list(lines([b"a,b\r\n1,", b"2\n"]))  # [Line(1, b"a,b"), Line(2, b"1,2")]

    Raises:
        BadFileError: It begins as UTF-16 or UTF-32 does.
    """
    number, held, is_long = 0, b"", False
    for chunk in _unmarked(chunks):
        *ended, rest = (held + chunk).split(b"\n")
        for raw in ended:
            number += 1
            yield _line(number, raw, is_long)
            is_long = False
        # Of a line that is too long nothing is held but that it is.
        is_long = is_long or len(rest) > LARGEST + 1
        held = b"" if is_long else rest
    if held or is_long:
        yield _line(number + 1, held, is_long)


def _line(number: int, raw: bytes, is_long: bool) -> Line:
    raw = raw.removesuffix(b"\r")
    return Line(number, None if is_long or len(raw) > LARGEST else raw)


def _unmarked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = iter(chunks)
    head = b""
    for chunk in rest:
        head += chunk
        if len(head) >= 4:  # as long as the longest mark
            break
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            raise BadFileError(f"the file must be UTF-8, and is {name}: save it as UTF-8")
    yield head.removeprefix(codecs.BOM_UTF8)
    yield from rest
