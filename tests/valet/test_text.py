"""Text that is none, sent to the two functions that valet keys have."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.valet.errors import BadNameError
from recourse.valet.names import object_name
from tests.profile import examples
from tests.valet.conftest import Ground

NOT_TEXT = [
    b'{"\\ud800": 1}',
    b'{"token": "\\udfff"}',
    b'{"token": "t", "part": {"\\ud800": 1}}',
    b'{"token": "\xff"}',
    b'{"token": "\xed\xa0\x80"}',
    b'{"token": 1, "token": 2}',
    b'{"token": NaN}',
    b'{"token": ' + b"9" * 5000 + b"}",
    b"[" * 12_000,
]
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("body", NOT_TEXT)
def test_what_is_not_text_is_a_400_to_redeem_and_to_issue(valet: Ground, body: bytes) -> None:
    for path in ("/valet-keys/redeem", "/valet-keys"):
        answer = valet.call("POST", path, body)
        assert answer.status == 400, answer
        assert answer.json["type"] == "urn:recourse:problem:malformed"
        assert answer.json["detail"].startswith("the body is not ")
        answer.text.encode()


@pytest.mark.parametrize(
    "body", [b"token=%ED%A0%80", b"token=%FF", b"token=\xff", b"%C3=x&token=t"]
)
def test_a_form_that_is_not_text_is_a_400(valet: Ground, body: bytes) -> None:
    answer = valet.call("POST", "/valet-keys/introspect", body, content_type=FORM)
    assert (answer.status, answer.json["type"]) == (400, "urn:recourse:problem:malformed")


@pytest.mark.parametrize("token", ["%ED%A0%80", "%FF.e30.e30", "\u0915", "x" * 100])
def test_a_link_that_is_not_text_is_a_401(valet: Ground, token: str) -> None:
    assert valet.call("GET", f"/v/{token}", subject=None).status == 401


@examples(60)  # each is two calls or more
@given(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_a_name_comes_back_everywhere_as_it_was_taken_or_is_named(valet: Ground, name: str) -> None:
    asked: dict[str, Any] = {"operation": "download", "object": name}
    answer = valet.call("POST", "/valet-keys", json.dumps(asked).encode())
    try:
        taken = object_name(name)
    except BadNameError:
        assert answer.status == 422 and "object" in answer.json["detail"]
        return
    assert answer.status in (201, 429), answer
    if answer.status == 201:
        key = answer.json["key_id"]
        assert answer.json["object"] == taken
        assert valet.call("GET", f"/valet-keys/{key}").json["object"] == taken
