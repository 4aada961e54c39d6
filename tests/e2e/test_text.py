"""Text from outside: ids of every script come through, and what is not text ends no process."""

from __future__ import annotations

import uuid
from urllib.parse import quote

import pytest

from recourse.cli.api import Api, ApiError

IDS = ["हिन्दी", "தமிழ்", "বাংলা", "€5", "O'Brien", 'the"inn"', "نامه\u200c\u0627ی", "50%", "a;b=c&d"]


@pytest.mark.parametrize("text", IDS)
def test_an_id_comes_through_a_path_as_it_went_in(api: Api, text: str) -> None:
    thing = f"{text}-{uuid.uuid4().hex[:8]}"
    path = f"/flights/{quote(thing, safe='')}"
    body = {"total": 5, "price": {"amount": 1, "currency": "INR"}}
    assert api.call("PUT", path, json=body).json()["id"] == thing
    assert api.get(path)["id"] == thing


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/valet-keys/redeem"),
        ("POST", "/valet-keys"),
        ("GET", "/flights/%ED%A0%80"),
        ("GET", "/sagas?business_key=%ED%A0%80"),
    ],
)
def test_what_is_not_text_is_a_400(api: Api, method: str, path: str) -> None:
    body = b'{"\\ud800": 1}' if method == "POST" else b""
    headers = {"content-type": "application/json"}
    with pytest.raises(ApiError) as refused:
        api.call(method, path, content=body, headers=headers)
    assert (refused.value.status, refused.value.kind) == (400, "malformed")
