"""The type of an upload, checked by its content: not by its name, nor by what its sender claims."""

from __future__ import annotations

import codecs
import re
from functools import cache

import puremagic
from puremagic.main import magic_header_array

from recourse.valet.errors import UnknownTypeError, WrongTypeError
from recourse.valet.names import OCTETS

HEAD = 64 * 1024
"""Bytes at an object's beginning that are examined."""
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,127}")
_TEXTS = frozenset({"application/json", "application/xml", "application/yaml", "image/svg+xml"})


@cache
def _known() -> frozenset[str]:
    return frozenset(one.mime_type.lower() for one in magic_header_array if one.mime_type)


def checkable(content_type: str) -> None:
    """Check that a content type is one whose content can be verified.

    Raises:
        UnknownTypeError: It is not; `application/octet-stream` always is.
    """
    bare = content_type.partition(";")[0].strip().lower()
    if not content_type.isprintable() or not content_type.isascii() or not _TYPE.fullmatch(bare):
        raise _unknown(f"{content_type!r} is not a valid content type")
    if not (bare == OCTETS or _is_text(bare) or bare in _known()):
        raise _unknown(f"{bare} cannot be verified by its content; send it as {OCTETS}")


def check(content_type: str, head: bytes) -> None:
    """Check the beginning of an object against its content type.

    Args:
        content_type: What the key says.
        head: The object's first `HEAD` bytes, or all of it.

    Raises:
        WrongTypeError: The content is of another type.
    """
    bare = content_type.partition(";")[0].strip().lower()
    if bare == OCTETS:
        return
    if _is_text(bare):
        try:
            text = codecs.getincrementaldecoder("utf-8")().decode(head)
        except UnicodeDecodeError:
            raise WrongTypeError(f"must be {bare}: the content is not UTF-8") from None
        if "\0" in text:
            raise WrongTypeError(f"must be {bare}: the content is not text")
        return
    try:
        found = {one.mime_type.lower() for one in puremagic.magic_string(head)}
    except puremagic.PureError:
        found = set()
    if bare not in found:
        raise WrongTypeError(f"must be {bare}: the content is of another type")


def _is_text(bare: str) -> bool:
    return bare.startswith("text/") or bare in _TEXTS


def _unknown(detail: str) -> UnknownTypeError:
    return UnknownTypeError(detail, field="upload.content_type")
