"""What text may be, wherever it comes from: ids, names and subjects; JSON; whole numbers.

Ids, keys, names and subjects are text in any script: of characters that can be seen, without
controls and bidirectional marks, and they come back as they went in. `unseen` is the one rule of
that; an id also travels in paths, so it has nothing that a gateway or a client rewrites there::

    is_id("€5"), is_id("क्‍ष"), is_id("a/b")  # True, True, False
    read_json(b'{"saga_id": "s-1"}')           # {"saga_id": "s-1"}
    whole("0020", 1, 100)                      # 20
    moment("2026-12-24T18:05:00+05:30")        # 12:35 of that day, in UTC
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from recourse.errors import RecourseError

LONGEST_ID = 128
LONGEST_SUBJECT = 256
DEEPEST = 32
"""How deep JSON may be nested: as deep as DynamoDB stores it."""
MOST_DIGITS = 38
"""How many digits an integer may have: as many as DynamoDB stores."""
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Unicode says that these are letters, marks and symbols, but there is nothing to see of them.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U0001d159")
_JOINERS = frozenset("\u200c\u200d")
_VARIANTS = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_KEYCAPS = frozenset("0123456789#*")
_NOT_IN_PATHS = re.compile(r"[/?#\\\ufffd]|%[0-9A-Fa-f]{2}")
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class MalformedError(RecourseError, ValueError):
    """It is not JSON in UTF-8 that everybody reads alike; the text says why."""


def unseen(text: str) -> str | None:
    """Why a text has what cannot be seen: a control, a mark of direction, a blank letter; or None.

    The joiners of Persian and Indic spelling and the variants of a character are allowed behind
    what they change, and not behind a character of ASCII, which they do not change (but `1` to a
    keycap).
    """
    before = ""
    for one in text:
        if one in _JOINERS:
            hidden = before.isascii() or before in _JOINERS
        elif _VARIANTS.match(one):
            changed = not before.isascii() or before in _KEYCAPS
            hidden = not (before and changed) or before in _JOINERS or bool(_VARIANTS.match(before))
        else:
            hidden = one in _BLANK or unicodedata.category(one) in _UNSEEN
        if hidden:
            return f"must not contain U+{ord(one):04X}, which is invisible"
        before = one
    return None


def is_id(text: str) -> bool:
    """Whether a text can be an id that travels in a path, as it is and escaped."""
    return flaw_of_id(text) is None


def flaw_of_id(text: str) -> str | None:
    """Why a text cannot be an id; None where it can.

    An HTTP API of AWS decodes paths before a function has them: it takes an escaped slash for a
    slash, ends the path at an escaped question mark, makes U+FFFD of what is not UTF-8, and leaves
    open whether `%41` was `A`.
    """
    if not 1 <= len(text) <= LONGEST_ID:
        return f"must have 1 to {LONGEST_ID} characters, got {len(text)}"
    if text in (".", ".."):
        return "must not be a dot or two, which a path leaves out"
    if found := _NOT_IN_PATHS.search(text):
        return f"must not contain {found[0]!r}, which cannot travel in a path"
    if any(one.isspace() for one in text):
        return "must not contain a space"
    return unseen(text)


def flaw_of_subject(subject: Any) -> str | None:
    """Why the subject of a token cannot be an owner; None where it can."""
    if not isinstance(subject, str):
        return "must be a string"
    if not 1 <= len(subject) <= LONGEST_SUBJECT:
        return f"must have 1 to {LONGEST_SUBJECT} characters, got {len(subject)}"
    return unseen(subject)


def whole(text: str, least: int, most: int) -> int:
    """A whole number, of ASCII digits alone; leading zeros count for nothing.

    Raises:
        ValueError: It is none, or out of bounds; the text says what it must be.
    """
    digits = text.lstrip("0") or text[-1:]
    # Its length is compared first: a text of any length is never converted.
    if text.isascii() and text.isdigit() and len(digits) <= len(str(most)):
        number = int(digits)
        if least <= number <= most:
            return number
    raise ValueError(f"must be {least} to {most}, got {shown(text[:20]) or 'nothing'}")


def moment(text: str) -> datetime:
    """A moment as RFC 3339 writes it, with its offset; in UTC, to the millisecond, never earlier.

    Raises:
        ValueError: It is none; the text says what it must be.
    """
    try:
        found = _MOMENT.fullmatch(text)
        if found is None:
            raise ValueError
        day, time, fraction, offset = found.groups(default="")
        at = datetime.fromisoformat(f"{day}T{time}{offset.upper()}")
        fraction = fraction.ljust(3, "0")
        thousandths = int(fraction[:3]) + bool(fraction[3:].strip("0"))
        return (at + timedelta(milliseconds=thousandths)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            "must be a moment by RFC 3339 with its offset, such as 2026-12-24T18:05:00+05:30, "
            f"got {shown(text[:40])!r}"
        ) from None


def shown(text: str) -> str:
    """A text as an answer can have it: what no encoding has, half of a surrogate pair, escaped."""
    return text.encode(errors="backslashreplace").decode()


def read_json(raw: str | bytes, *, deepest: int = DEEPEST) -> Any:
    """What JSON says, whoever has written it.

    Refused is what another reader may take for something else, and what cannot be stored: bytes
    that are not UTF-8, half of a surrogate pair, a name that is there twice, NaN and Infinity,
    integers of more than 38 digits, nesting without end.

    Raises:
        MalformedError: It is not JSON, or is refused.
    """
    try:
        text = raw if isinstance(raw, str) else raw.decode()
        text.encode()
    except UnicodeError:
        raise MalformedError("it is not UTF-8") from None
    if text.count("[") + text.count("{") > deepest and _depth(text) > deepest:
        raise MalformedError(f"it is nested more than {deepest} deep")
    try:
        found = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse,
            parse_float=_fraction,
            parse_int=_integer,
        )
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as problem:
        half = ord(problem.object[problem.start])
        raise MalformedError(f"U+{half:04X} is half of a surrogate pair, and no text") from None
    except MalformedError:
        raise
    except ValueError as problem:
        raise MalformedError(shown(str(problem))) from None
    return found


def _depth(text: str) -> int:
    depth = most = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            most = max(most, depth)
        elif token[0] in "]}":
            depth -= 1
    return most


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise MalformedError(f"the name {twice[:LONGEST_ID]!r} is there twice")
    return found


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS:
        raise MalformedError(f"a number must have at most {MOST_DIGITS} digits")
    return int(text)


def _fraction(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text[:20])


def _refuse(text: str) -> float:
    raise MalformedError(f"{text} is not a number of JSON")


def are_reasons(value: object) -> bool:
    """Whether it is a reason for each of some names: text by text, none of it blank."""
    return isinstance(value, Mapping) and all(
        isinstance(one, str) and bool(one.strip()) for pair in value.items() for one in pair
    )
