r"""Names of objects: what is taken, and where in the bucket it lies.

A name is relative to its owner. It is refused where it could mean something else to somebody who
reads it: a step up, a separator in disguise, a character that is not seen. What S3 is given is
`objects/<owner>/<name>`, with the owner escaped so that no owner is a prefix of another's space.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from urllib.parse import quote

from recourse.valet.errors import BadNameError

MAX_NAME_BYTES = 700
"""Bytes of a name; with the longest owner a key then fits S3's 1024."""
_LONGEST_OWNER = 256
_SPACES = ("objects", "incoming", "quarantine")
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_SEPARATORS = frozenset("/\\.")
# Not one of these is folded into a separator by Unicode, and all of them look like one.
_LOOK_ALIKES = frozenset(
    "\u2044\u2215\u2216\u2571\u2572\u27cb\u27cd\u29f5\u29f8\u29f9\u3033\u30ce\u4e36\u4e3f"
)
_ESCAPED = re.compile(r"%(?:2e|2f|5c|00)", re.IGNORECASE)


def object_name(name: str) -> str:
    """A name as it is kept: normalised to NFC.

    Raises:
        BadNameError: It is not one that is taken; the message says what is wrong with it.
    """
    if any("\ud800" <= one <= "\udfff" for one in name):
        raise _bad("it holds half of a character")
    name = unicodedata.normalize("NFC", name)
    if not name:
        raise _bad("it is empty")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise _bad(f"it has more than {MAX_NAME_BYTES} bytes")
    for one in name:
        if unicodedata.category(one) in _UNSEEN:
            raise _bad(f"it holds U+{ord(one):04X}, which is not seen")
        if one == "\\":
            raise _bad("it holds a backslash")
        folded = unicodedata.normalize("NFKC", one)
        if one in _LOOK_ALIKES or (folded != one and _SEPARATORS & set(folded)):
            raise _bad(f"it holds U+{ord(one):04X}, which looks like a separator or a dot")
    if ".." in name:
        raise _bad("it holds '..'")
    if _ESCAPED.search(name):
        raise _bad("it holds an escaped separator or dot")
    segments = name.split("/")
    for segment in segments:
        if segment in ("", "."):
            raise _bad("it begins or ends with a slash, or holds an empty segment")
        if segment != segment.strip():
            raise _bad("a segment of it begins or ends with a space")
    if segments[0].casefold() in _SPACES:
        raise _bad(f"it begins with {segments[0]!r}: names are relative to their owner")
    return name


def owner_space(owner: str) -> str:
    """An owner as one segment of a key: two owners never share one, and none steps out of it."""
    escaped = quote(owner, safe="").replace("~", "%7E")
    if not escaped.strip("."):
        escaped = escaped.replace(".", "%2E") or "~"
    if len(escaped) > _LONGEST_OWNER:
        return "~" + hashlib.sha256(owner.encode()).hexdigest()
    return escaped


def object_key(owner: str, name: str) -> str:
    """Where an object lies once it is visible."""
    return f"objects/{owner_space(owner)}/{name}"


def incoming_key(key_id: str) -> str:
    """Where an upload lands, and nobody sees it."""
    return f"incoming/{key_id}"


def quarantine_key(key_id: str) -> str:
    """Where an upload is kept that is not what its key says."""
    return f"quarantine/{key_id}"


def _bad(why: str) -> BadNameError:
    return BadNameError(f"object: {why}", field="object")
