"""Names of objects: what is taken, what is refused, and that owners stay apart."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.valet.errors import BadNameError
from recourse.valet.names import MAX_NAME_BYTES, object_key, object_name, owner_space


@pytest.mark.parametrize(
    "name",
    [
        "passports/asha.pdf",
        "a",
        "é/ü.pdf",
        "日本/旅券.pdf",
        "a b/c d.txt",
        "100%.txt",
        ".hidden",
        "ノート/請求書\u3000\u4e3f\u4e36.pdf",
        "نامه\u200c\u0627ی.pdf",
        "ශ\u0dca\u200dර\u0dd3.pdf",
        "അവന\u0d4d\u200d.pdf",
        "❤\ufe0f\u200d🔥.png",
        "Screenshot 9.41\u202fAM.png",
        "x" * MAX_NAME_BYTES,
    ],
)
def test_a_plain_name_is_kept_as_it_is(name: str) -> None:
    assert object_name(name) == name


def test_a_name_is_normalised() -> None:
    assert object_name("passe\u0301.pdf") == "pass\u00e9.pdf"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "./a",
        "a/./b",
        "..",
        "../ravi/a",
        "a/../../ravi/b",
        "a..b",
        "a\\b",
        "..\\ravi",
        "a\x00b",
        "a\nb",
        "a\x7fb",
        "a\u0085b",
        "a\u202egnp.pdf",
        "a\u200bb",
        "a\ufeff",
        "a\u2028b",
        "\ud800",
        "a\u3164",
        "\u115f\u1160",
        "\uffa0.pdf",
        "a\u2800b",
        "a\u034fb",
        "a\u200db",
        "\u200cب",
        "a\ufe0f",
        "a\uff0fb",
        "a\u2215b",
        "a\u2044b",
        "a\u29f8b",
        "a\uff3cb",
        "a\ufe68b",
        "\u2024\u2024/a",
        "\u2025/a",
        "\u2026",
        "\uff0e\uff0e/a",
        "\ufe52\ufe52/a",
        "%2e%2e/a",
        "a%2Fb",
        "a%5cb",
        " a",
        "a /b",
        "objects/ravi/a",
        "Incoming/x",
        "quarantine/x",
        "x" * (MAX_NAME_BYTES + 1),
        "é" * (MAX_NAME_BYTES // 2 + 1),
    ],
)
def test_a_name_that_could_mean_something_else_is_refused(name: str) -> None:
    with pytest.raises(BadNameError) as refused:
        object_name(name)
    assert refused.value.field == "object"


@given(st.text(max_size=60))
def test_whatever_is_taken_stays_in_its_owners_space(name: str) -> None:
    try:
        taken = object_name(name)
    except BadNameError:
        return
    assert object_name(taken) == taken
    assert unicodedata.is_normalized("NFC", taken)
    segments = object_key("asha", taken).split("/")
    assert segments[:2] == ["objects", "asha"]
    assert not {"", ".", ".."} & set(segments)
    folded = unicodedata.normalize("NFKC", taken)
    assert folded.count("/") == taken.count("/")
    assert folded.count(".") == taken.count(".")


subjects = st.one_of(
    st.sampled_from(["", ".", "..", "~", "a/b", "a", "asha", "asha/", "%2E", "x" * 300, "é" * 200]),
    st.text(st.characters(codec="utf-8"), max_size=300),
)


@given(subjects, subjects)
def test_no_owner_reaches_anothers_space(one: str, other: str) -> None:
    spaces = owner_space(one), owner_space(other)
    for space in spaces:
        assert "/" not in space and space not in ("", ".", "..")
        assert len(object_key(one, "x" * MAX_NAME_BYTES).encode()) <= 1024
    assert (spaces[0] == spaces[1]) == (one == other)
