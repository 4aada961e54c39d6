"""Names of objects: which are allowed, and their keys in the bucket.

A name is relative to its owner. It is refused where another reader could take it for something
else: a step up, a look-alike of a separator, an invisible character. The key in S3 is
`objects/<owner>/<name>`, with the owner escaped so that no owner's space lies within another's.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from urllib.parse import quote

from recourse.text import unseen
from recourse.valet.errors import BadNameError

MAX_NAME_BYTES = 700
"""With the longest owner a key then fits S3's 1024 bytes."""
_LONGEST_OWNER = 256
_SPACES = ("objects", "incoming", "quarantine")
_SEPARATORS = frozenset("/\\.")
# Unicode folds none of these symbols into a separator, but all of them look like one. So do some
# letters, such as the katakana no: they are in everyday words, and stay.
_LOOK_ALIKES = frozenset("\u2044\u2215\u2216\u2571\u2572\u27cb\u27cd\u29f5\u29f8\u29f9")
_ESCAPED = re.compile(r"%(?:2e|2f|5c|00)", re.IGNORECASE)


def object_name(name: str) -> str:
    """A valid name, normalised to NFC.

    Raises:
        BadNameError: The name is not allowed; the message says why.
    """
    if flaw := flaw_of_name(name):
        raise BadNameError(f"object: {flaw}", field="object")
    return unicodedata.normalize("NFC", name)


def flaw_of_name(name: str) -> str | None:
    """Why a name is not allowed; None where it is."""
    if any("\ud800" <= one <= "\udfff" for one in name):
        return "must not contain half of a surrogate pair"
    name = unicodedata.normalize("NFC", name)
    if not 1 <= (size := len(name.encode())) <= MAX_NAME_BYTES:
        return f"must be 1 to {MAX_NAME_BYTES} bytes in UTF-8, got {size}"
    if flaw := unseen(name):
        return flaw
    for one in name:
        if one == "\\":
            return "must not contain a backslash"
        folded = unicodedata.normalize("NFKC", one)
        if one in _LOOK_ALIKES or (folded != one and _SEPARATORS & set(folded)):
            return f"must not contain U+{ord(one):04X}, which looks like a separator or a dot"
    if ".." in name:
        return "must not contain '..'"
    if _ESCAPED.search(name):
        return "must not contain an escaped separator or dot"
    return _flaw_of_segments(name.split("/"))


def _flaw_of_segments(segments: list[str]) -> str | None:
    for segment in segments:
        if segment in ("", "."):
            return "must not begin or end with a slash, or contain an empty segment"
        if segment != segment.strip():
            return "no segment may begin or end with a space"
    if segments[0].casefold() in _SPACES:
        return f"must not begin with {segments[0]!r}: names are relative to their owner"
    return None


def owner_space(owner: str) -> str:
    """An owner as one segment of a key: unique to it, without a separator or a step up."""
    escaped = quote(owner, safe="").replace("~", "%7E")
    if not escaped.strip("."):
        escaped = escaped.replace(".", "%2E") or "~"
    if len(escaped) > _LONGEST_OWNER:
        return "~" + hashlib.sha256(owner.encode()).hexdigest()
    return escaped


def object_key(owner: str, name: str) -> str:
    """The S3 key of a visible object."""
    return f"objects/{owner_space(owner)}/{name}"


def incoming_key(key_id: str) -> str:
    """The S3 key that an upload lands at, which is not readable."""
    return f"incoming/{key_id}"


def quarantine_key(key_id: str) -> str:
    """The S3 key of an upload that is not what its valet key says."""
    return f"quarantine/{key_id}"
