"""What text may be: ids and names in any script, JSON that all read alike, whole numbers."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from recourse import events
from recourse.errors import UnreadableError
from recourse.events import Event
from recourse.events.event import saga_id_of
from recourse.problems import ProblemError
from recourse.text import (
    DEEPEST,
    MalformedError,
    flaw_of_id,
    flaw_of_subject,
    is_id,
    moment,
    read_json,
    unseen,
    whole,
)

EVERYDAY = [
    *("टिकट", "முன்பதிவு", "ভ্রমণ", "€5", "O'Brien", 'the"inn"', "日本語ノート", "نامه‌ای", "क्‍ष"),
    *(
        "ශ්‍රී",
        "അവന്‍",
        "passe\u0301",
        "❤️",
        "👩‍💻",
        "1️⃣",
        "葛\U000e0100",
        "a&b=c;d",
        "50°",
        "x|y",
        "50%",
        "%4",
    ),
]
HIDDEN = [
    *(
        "\x00",
        "a\nb",
        "\x1b[2J",
        "a\u202eb",
        "a\u2066b",
        "\u200ea",
        "a\u061cb",
        "a\u200bb",
        "\ufeff",
    ),
    *("\u3164", "\u115f\u1160", "\uffa0", "a\u2800b", "a\u034fb", "\u17b4", "\u00ad", "\ufeff"),
    *(
        "a\u200db",
        "\u200c",
        "a\ufe0f",
        "\ufe0f",
        "❤\ufe0f\ufe0f",
        "क\u200d\u200d",
        "\ue000",
        "\u2028",
    ),
]
any_text = st.text(st.characters(codec=None), max_size=40)


@pytest.mark.parametrize("text", EVERYDAY)
def test_text_of_every_script_is_an_id_and_a_subject(text: str) -> None:
    assert (flaw_of_id(text), flaw_of_subject(text)) == (None, None)


@pytest.mark.parametrize("text", HIDDEN)
def test_what_nobody_can_see_is_in_no_text(text: str) -> None:
    assert "U+" in (unseen(text) or "")
    assert flaw_of_subject(text) and not is_id(text)


@pytest.mark.parametrize(
    "text", ["", "x" * 129, "a b", "a/b", "a?b", "a#b", "50%41", "a\\b", "a\ufffd", ".", ".."]
)
def test_what_a_path_does_not_carry_is_not_an_id(text: str) -> None:
    assert flaw_of_id(text)


@pytest.mark.parametrize("subject", ["", "x" * 257, None, 7, "a\u202e"])
def test_what_cannot_own_anything_is_not_a_subject(subject: Any) -> None:
    assert flaw_of_subject(subject)


@given(any_text)
def test_no_text_has_a_control_or_a_mark_of_direction(text: str) -> None:
    if unseen(text) is None:
        text.encode()
        assert not any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in text)
        marks = {one for one in text if unicodedata.category(one) == "Cf"}
        assert marks <= {"\u200c", "\u200d"}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ('{"\\ud800": 1}', "U+D800 is half"),
        ('["a", {"b": "\\uDFFF"}]', "U+DFFF is half"),
        ('"\\ud800\\ud800\\udc00"', "U+D800 is half"),
        ('"\ud800"', "not UTF-8"),
        (b'"\xff"', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        ("NaN", "NaN is not a number"),
        ('{"a": -Infinity}', "-Infinity is not a number"),
        ("[1e400]", "1e400 is not a number"),
        ('{"a": 1, "b": 2, "a": 3}', "the name 'a' is there twice"),
        ('{"\\ud800": 1, "\\ud800": 2}', "twice"),
        ("[" * 100_000, "nested more than"),
        ('{"a":' * 33 + "1" + "}" * 33, "nested more than"),
        ("9" * 39, "38 digits"),
        ("-" + "9" * 5_000, "38 digits"),
        ("", "Expecting value"),
        ("\ufeff{}", "BOM"),
    ],
)
def test_json_that_another_reads_otherwise_is_malformed(raw: str | bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(why)) as refused:
        read_json(raw)
    str(refused.value).encode()


@pytest.mark.parametrize(
    "raw", ['"\\ud83d\\ude00"', '"[[' + "[" * 99 + '"', "9" * 38, "[" * 32 + "]" * 32]
)
def test_json_that_is_only_unusual_is_read(raw: str) -> None:
    assert read_json(raw) == read_json(raw.encode()) == json.loads(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**38) + 1, 10**38 - 1) | any_text | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.booleans())
def test_json_comes_back_as_it_went_in_or_is_malformed(value: Any, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only)
    try:
        found = read_json(raw)
    except MalformedError:
        with pytest.raises((UnicodeEncodeError, ValueError)):
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        return
    assert found == value
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("depth", [DEEPEST, DEEPEST + 1])
def test_depth_counts_brackets_and_not_what_is_quoted(depth: int) -> None:
    raw = "[" * depth + '"]]]]"' + "]" * depth
    if depth <= DEEPEST:
        read_json(raw)
    else:
        with pytest.raises(MalformedError):
            read_json(raw)


digits = st.text("0123456789٣²੩+-_ .eE", max_size=12) | st.integers().map(str) | any_text


@given(digits, st.integers(0, 5), st.integers(5, 10**6))
def test_a_whole_number_is_within_its_bounds_or_refused(text: str, least: int, most: int) -> None:
    try:
        found = whole(text, least, most)
    except ValueError as refused:
        assert str(refused).startswith(f"must be {least} to {most}, got ")
        str(refused).encode()
        return
    assert least <= found <= most
    assert text.isascii() and int(text) == found


@pytest.mark.parametrize(
    "text", ["000000001000000000", "9" * 5_000, "²", "٣", "1_0", " 1", "+1", ""]
)
def test_digits_that_were_not_checked_are_not_used(text: str) -> None:
    with pytest.raises(ValueError, match="must be 1 to 100"):
        whole(text, 1, 100)
    assert whole("0" * 5_000 + "20", 1, 100) == 20


@given(any_text, any_text)
def test_a_problem_can_always_be_answered(detail: str, field: str) -> None:
    body = ProblemError("invalid", detail, errors=[{"field": field, "message": detail}]).body
    json.dumps(body, ensure_ascii=False).encode()


@pytest.mark.parametrize("spoilt", ["\\ud800", "\\udfff\\ud800"])
def test_an_event_that_is_not_text_is_unreadable_and_belongs_to_no_saga(spoilt: str) -> None:
    text = json.dumps({"id": "e", "subject": "s", "time": "now", "data": {"x": "?"}})
    text = text.replace("?", spoilt)
    with pytest.raises(UnreadableError, match="half of a surrogate pair"):
        Event.parse(text)
    assert saga_id_of(text) is None


@given(st.datetimes(timezones=st.timezones()), st.integers(0, 6))
def test_a_moment_is_read_to_the_millisecond_and_never_earlier(when: datetime, digits: int) -> None:
    """Whatever the offset, as far as RFC 3339 can write it: in whole minutes, from year 1 on."""
    offset = when.utcoffset()
    assume(offset is not None and not offset.total_seconds() % 60 and 1 < when.year < 9999)
    whole, fraction = when.isoformat(timespec="microseconds").split(".")
    fraction, zone = fraction[:6], fraction[6:]
    text = f"{whole}{f'.{fraction[:digits]}' if digits else ''}{zone}"
    written = when.replace(microsecond=int(fraction[:digits].ljust(6, "0")))
    found = moment(text)
    assert found.tzinfo is UTC and not found.microsecond % 1000
    assert timedelta(0) <= found - written < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-12-24t18:05:00z", "2026-12-24T18:05:00.000Z"),
        ("2026-12-24 18:05:00.9999999999Z", "2026-12-24T18:05:01.000Z"),
        ("2026-12-24T18:05:00.0000001-00:00", "2026-12-24T18:05:00.001Z"),
        ("2026-12-24T18:05:00+05:30", "2026-12-24T12:35:00.000Z"),
    ],
)
def test_a_moment_may_be_written_in_several_ways(text: str, read: str) -> None:
    assert events.moment(moment(text)) == read


@given(st.text())
def test_what_is_no_moment_is_a_value_error(text: str) -> None:
    assume(not text[:1].isdigit())
    with pytest.raises(ValueError, match="must be a moment by RFC 3339"):
        moment(text)
