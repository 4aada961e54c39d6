"""Names of files for documents whose names come from others."""

from __future__ import annotations

import re
import unicodedata

from recourse.cli.visible import SHOWN, visible

NAMELESS = "document"
LONGEST = 200
"""Bytes of UTF-8: file systems take 255, some of them less for what they encode."""
_LONGEST_SUFFIX = 20
_NOT_IN_NAMES = re.compile(r'[<>:"|?*]|' + SHOWN)
_DEVICES = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³]|con(in|out)\$) *(\.|$)", re.IGNORECASE)


def file_name(name: str) -> str:
    """A name for a file in the current folder, on any system, from a document's name.

    It is the last part of the name, without what a shell, a terminal or a file system could take
    for something else: never a path, a hidden file, an option or a device.

    ::

        file_name("passports/asha.pdf")  # "asha.pdf"
        file_name("../.envrc")  # "envrc"
        file_name("/v/CON")  # "_CON"
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    safe = _NOT_IN_NAMES.sub("_", visible(last)).strip(". \u3000").lstrip("-~")
    safe = _cut(safe.strip(". "))
    if _DEVICES.match(safe):
        safe = f"_{safe}"
    return safe or NAMELESS


def _cut(name: str) -> str:
    """The name within its bytes, with its suffix."""
    raw = name.encode()
    if len(raw) <= LONGEST:
        return name
    stem, dot, suffix = name.rpartition(".")
    end = f".{suffix}".encode() if dot and stem and len(suffix.encode()) < _LONGEST_SUFFIX else b""
    return raw[: LONGEST - len(end)].decode(errors="ignore").rstrip(". ") + end.decode()
