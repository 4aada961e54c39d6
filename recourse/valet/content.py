"""The type of an upload, checked by its content: not by its name, nor by what its sender claims.

Text is what its charset says: that of its byte order mark, of its content type, or the one that an
XML, HTML or CSS document declares itself; else UTF-8.
"""

from __future__ import annotations

import codecs
import re

from recourse.valet.errors import UnknownTypeError, WrongTypeError
from recourse.valet.types import OCTETS, TYPES, bare, canonical, charset_of, is_text

HEAD = 64 * 1024
"""Bytes at an object's beginning that are examined."""
CHARSETS = frozenset(
    {
        *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
        *("ascii", *(f"iso8859-{part}" for part in range(1, 17) if part != 12)),
        *(f"cp{page}" for page in range(1250, 1259)),
        *("cp437", "cp850", "cp852", "cp866", "cp874", "mac-roman", "koi8-r", "koi8-u", "tis-620"),
        *("shift_jis", "cp932", "euc_jp", "iso2022_jp", "gb2312", "gbk", "gb18030"),
        *("big5", "big5hkscs", "euc_kr", "cp949"),
    }
)
"""The charsets of text, as Python's codecs are called."""
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,127}")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as that of UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = {
    "xml": re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)"""),
    "html": re.compile(rb"""<meta[^>]*?\bcharset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE),
    "css": re.compile(rb"""@charset "([\w.:-]+)";"""),
}
_BINARY = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
"""What no text has, by WHATWG's MIME Sniffing."""


def checkable(content_type: str) -> None:
    """Check that a content type is one whose content can be verified.

    Raises:
        UnknownTypeError: It is not; `application/octet-stream` always is.
    """
    is_plain = content_type.isprintable() and content_type.isascii()
    if not is_plain or not _TYPE.fullmatch(bare(content_type)):
        raise _unknown(f"must be a content type such as application/pdf, got {content_type!r}")
    name = canonical(content_type)
    if is_text(name):
        charset = charset_of(content_type)
        if charset is not None and _codec(charset) is None:
            raise _unknown(
                f"{charset!r} is not a charset that can be verified: use utf-8, utf-16, utf-32, "
                "windows-125x, iso-8859-x, shift_jis, euc-jp, iso-2022-jp, gbk, gb18030, big5, "
                f"euc-kr, koi8-r or another of its kind, or send it as {OCTETS}"
            )
    elif name != OCTETS and name not in TYPES:
        possible = sorted(name for name in TYPES if not name.startswith("text/"))
        raise _unknown(
            f"{name} cannot be verified by its content: send it as {OCTETS}, or as what it is of "
            f"text/*, *+json, *+xml, *+yaml, {', '.join(possible)}"
        )


def check(content_type: str, head: bytes) -> str:
    """Check the beginning of an object against its content type.

    A key that was issued by an earlier release may have a type, or a charset, that `checkable`
    refuses by now. Its upload is not lost, and is not called what nobody has proven::

        check("image/png", head)  # "image/png"
        check("image/x-dwg", head)  # "application/octet-stream"
        check("text/csv; charset=klingon", head)  # "text/csv", if it is in UTF-8

    Args:
        content_type: What the key says.
        head: The object's first `HEAD` bytes, or all of it.

    Returns:
        The content type as far as it is proven.

    Raises:
        WrongTypeError: The content is of another type.
    """
    name = canonical(content_type)
    if is_text(name):
        charset = charset_of(content_type)
        known = charset is None or _codec(charset) is not None
        _check_text(name, charset if known else None, head)
        return content_type if known else name
    if name not in TYPES:
        return OCTETS
    proves = TYPES[name].proves
    if proves is None or not proves(head):
        raise WrongTypeError(f"must be {name}: the content is of another type")
    return content_type


def _check_text(name: str, charset: str | None, head: bytes) -> None:
    marked = next((codec for mark, codec in _MARKS if head.startswith(mark)), None)
    charset = marked or charset or _declared(name, head) or "utf-8"
    codec = _codec(charset)
    if codec is None:
        raise WrongTypeError(f"must be {name}: {charset!r} is not a charset that can be verified")
    try:
        text = codecs.getincrementaldecoder(codec)().decode(head, final=len(head) < HEAD)
    except UnicodeError:
        raise WrongTypeError(f"must be {name}: the content is not {codec.upper()}") from None
    # In UTF-8 hardly anything but text decodes; in other charsets anything may.
    if "\0" in text or (codec != "utf-8" and _BINARY.search(text)):
        raise WrongTypeError(f"must be {name}: the content is not text")


def _declared(name: str, head: bytes) -> str | None:
    """The charset that a document itself declares near its beginning.

    What can be read there is no UTF-16, whatever it says: HTML takes it for UTF-8, and so do we.
    """
    kind = "xml" if name.endswith(("/xml", "+xml")) else name.removeprefix("text/")
    pattern = _DECLARED.get(kind)
    found = pattern.search(head[:1024]) if pattern else None
    charset = found[1].decode() if found else ""
    return None if charset.lower().startswith(("utf-16", "utf-32")) else charset


def _codec(charset: str) -> str | None:
    """The codec of a charset; None for what is none, or none of text."""
    name = charset.lower().replace("windows-31j", "cp932").replace("x-sjis", "shift_jis")
    try:
        codec = codecs.lookup(re.sub(r"^windows-(?=874$|949$)", "cp", name)).name
    except (LookupError, ValueError):
        return None
    return codec if codec in CHARSETS else None


def _unknown(detail: str) -> UnknownTypeError:
    return UnknownTypeError(detail, field="upload.content_type")
