"""Text and numbers through the API: as they went in, or refused with a problem that names them.

Which fields and parameters there are is read from the description.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lambdas.api
from recourse.text import is_id
from tests.description import DESCRIPTION, OPERATIONS, Described
from tests.fuzzing import leaping
from tests.ground import Ground
from tests.integration.calling import PREFIX, Answer, Caller, keys
from tests.integration.test_api import asha, changed, operator, problem
from tests.integration.test_api import shared as shared
from tests.integration.trips import TRIP
from tests.profile import examples
from tests.unit.test_text import EVERYDAY, HIDDEN

FIFTY = {"total": 50, "price": {"amount": 1, "currency": "INR"}}
CALLER = Caller("asha", "sagas:read sagas:write valet:issue webhooks:write operator")
unicode_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.sampled_from(
    [*EVERYDAY, *(one for one in HIDDEN if one != "\ud800")]
)


FOUND = [one for one in OPERATIONS if None not in one.in_path.values()]
"""The operations on something that the seed has; the others are a 404 first."""


def texts(schema: dict[str, Any], example: Any, path: str = "") -> Iterator[str]:
    """The paths of the fields of free text, where the example has them."""
    if "$ref" in schema:
        schema = DESCRIPTION["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for one in schema.get("anyOf", []):
        yield from texts(one, example, path)
    if isinstance(example, dict):
        for name, inner in schema.get("properties", {}).items():
            if name in example:
                yield from texts(inner, example[name], f"{path}.{name}".lstrip("."))
    elif isinstance(example, list) and "items" in schema:
        pass  # a list has its elements' fields, which one of the sagas has by itself
    elif schema.get("type") == "string" and "enum" not in schema and "const" not in schema:
        yield path


def fields_of_text() -> list[tuple[str, str]]:
    """Each operation that takes JSON, by its place, with each of its fields of text."""
    found = []
    for place, one in enumerate(FOUND):
        content = one.says.get("requestBody", {}).get("content", {}).get("application/json", {})
        if content and one.example is not None:
            found += [(place, path) for path in texts(content["schema"], one.example)]
    return [(str(FOUND[place]), path) for place, path in found]


BY_NAME = {str(one): one for one in OPERATIONS}
FIELDS = fields_of_text()
INTEGERS = [
    (str(one), parameter["name"])
    for one in FOUND
    for parameter in one.says.get("parameters", [])
    if parameter["schema"].get("type") == "integer"
]


def address(operation: Described, query: str = "") -> str:
    """A path of an operation, with an example in each part."""
    path = operation.path
    for name, example in operation.in_path.items():
        path = path.replace(f"{{{name}}}", quote(str(example or "x"), safe=""))
    return path + (f"?{query}" if query else "")


def call(operation: Described, body: Any, query: str = "") -> Answer:
    more = {"Idempotency_Key": f"text-{next(keys)}"}
    answer = CALLER(operation.method, address(operation, query), body, **more)
    answer.text.encode()
    assert answer.status < 500, answer
    return answer


def test_the_fields_and_the_parameters_are_found() -> None:
    assert ("POST /sagas/travel-booking", "traveller.name") in FIELDS
    assert ("POST /valet-keys", "object") in FIELDS
    assert ("GET /sagas", "limit") in INTEGERS and ("GET /events", "wait") in INTEGERS
    assert len(FIELDS) > 20 and len(INTEGERS) > 3


@examples(200)
@given(field=st.sampled_from(FIELDS), text=unicode_text)
def test_a_field_of_text_is_kept_as_it_was_or_named(
    shared: Ground, field: tuple[str, str], text: str
) -> None:
    name, path = field
    operation = BY_NAME[name]
    answer = call(operation, changed(operation.example, path, text))
    if answer.status == 422 and "errors" in answer.json:
        assert {one["field"] for one in answer.json["errors"]} == {path}
    elif answer.status == 202 and operation.path.startswith("/sagas/"):
        row = shared.ledger.get(answer.json["saga_id"])
        assert row is not None
        found: Any = row.request
        for part in path.split("."):
            found = found[part]
        assert found == text


@pytest.mark.parametrize("name", sorted({str(one) for one in FOUND if one.example is not None}))
@pytest.mark.parametrize(
    "raw",
    [
        b'{"\\ud800": 1}',
        b'{"a": {"b": ["\\udc00"]}}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\xff"}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * 10_000,
    ],
)
def test_a_body_that_is_not_text_is_a_400(shared: Ground, name: str, raw: bytes) -> None:
    operation = BY_NAME[name]
    form = "application/json" not in operation.says["requestBody"]["content"]
    if form or operation.path == "/valet-keys/redeem":
        return  # another parser, and another function: tests/valet
    found = problem(call(operation, raw), 400, "malformed")
    assert found["detail"].startswith("the body is not ")


@pytest.mark.parametrize(
    "path",
    ["/flights/%ED%A0%80", "/sagas/%FF", "/webhooks/%C3", "/sagas/%ff/cancel", "/sagas/\ufffd"],
)
def test_a_path_that_is_not_utf_8_is_a_400(shared: Ground, path: str) -> None:
    method = "POST" if path.endswith("cancel") else "GET"
    problem(CALLER(method, path), 400, "malformed")


@pytest.mark.parametrize("query", ["business_key=%ED%A0%80", "x=%FF", "cursor=%C3"])
def test_a_query_that_is_not_utf_8_is_a_400(shared: Ground, query: str) -> None:
    problem(asha("GET", f"/sagas?{query}"), 400, "malformed")


def through(method: str, path: str, body: Any = None) -> dict[str, Any]:
    """A call as API Gateway makes it, which hands a path on decoded but for percent signs."""
    claims = {"sub": "olga", "scope": f"{PREFIX}operator"}
    event = {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {},
        "requestContext": {
            "stage": "$default",
            "requestId": "r",
            "http": {"method": method, "path": path},
            "authorizer": {"jwt": {"claims": claims}},
        },
        "isBase64Encoded": body is not None,
        "body": base64.b64encode(json.dumps(body).encode()).decode() if body else None,
    }
    return lambdas.api.handler(event, None)


@examples(150)
@given(thing=unicode_text)
def test_an_id_comes_through_a_path_as_it_went_in(shared: Ground, thing: str) -> None:
    path = f"/flights/{quote(thing, safe='')}"
    made = operator("PUT", path, FIFTY)
    if is_id(thing):
        assert made.status in (200, 201) and made.json["id"] == thing
        assert asha("GET", path).json["id"] == thing
        decoded = "/flights/" + thing.replace("%", "%25")
        assert json.loads(through("GET", decoded)["body"])["id"] == thing
    else:
        assert made.status in (400, 422) and "id" in made.json["detail"]


@pytest.mark.parametrize("thing", EVERYDAY)
def test_ids_of_every_script_are_taken_by_path_and_body(shared: Ground, thing: str) -> None:
    path = f"/flights/{quote(thing, safe='')}"
    assert operator("PUT", path, FIFTY).status in (200, 201)
    assert asha("GET", path).json["id"] == thing
    started = asha.start(changed(changed(TRIP, "trip_id", thing), "flight.id", thing))
    assert started.json["business_key"] == thing
    listed = asha("GET", f"/sagas?{urlencode({'business_key': thing})}").json["items"]
    assert started.json["saga_id"] in {one["saga_id"] for one in listed}


@pytest.mark.parametrize("text", ["a/b", "2026/1 ?", "..", "50%"])
def test_a_business_key_need_not_travel_in_a_path(shared: Ground, text: str) -> None:
    assert asha.start(changed(TRIP, "trip_id", text)).json["business_key"] == text


@pytest.mark.parametrize("text", ["a\u202eb", "\x1b[2J", "\u3164"])
def test_what_nobody_can_see_is_refused_and_named(shared: Ground, text: str) -> None:
    for path in ("trip_id", "flight.id", "traveller.name"):
        found = problem(asha.start(changed(TRIP, path, text)), 422, "invalid")
        assert [one["field"] for one in found["errors"]] == [path]
    found = problem(asha("GET", f"/sagas?{urlencode({'business_key': text})}"), 422, "invalid")
    assert found["errors"][0]["field"] == "business_key"


@examples(200)
@given(field=st.sampled_from(FIELDS), text=unicode_text | st.text(max_size=3))
def test_a_refused_field_is_told_what_it_must_be(
    shared: Ground, field: tuple[str, str], text: str
) -> None:
    name, path = field
    answer = call(BY_NAME[name], changed(BY_NAME[name].example, path, text))
    errors = answer.json.get("errors", []) if answer.status == 422 else []
    for message in [one["message"] for one in errors]:
        assert re.search(r"\b(must|should|may|cannot|send)\b", message), message
        assert not re.search(r"[Pp]redicate|\bfailed\b", message), message


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        (
            "POST /sagas/travel-booking",
            "flight.id",
            "a/b",
            "must not contain '/', which cannot travel in a path",
        ),
        ("POST /sagas/travel-booking", "hotel.id", "a b", "must not contain a space"),
        (
            "POST /sagas/travel-booking",
            "trip_id",
            "a\u202eb",
            "must not contain U+202E, which is invisible",
        ),
        (
            "POST /sagas/travel-booking",
            "traveller.email",
            "asha",
            "must be an address such as asha@example.com",
        ),
        (
            "POST /sagas/travel-booking",
            "documents",
            {"passport": "../x"},
            "must not contain '..'",
        ),
        (
            "POST /sagas/order",
            "lines",
            [{"sku": "a#b", "quantity": 1}],
            "must not contain '#', which cannot travel in a path",
        ),
        (
            "PUT /flights/{id}",
            "price.currency",
            "XXX",
            "must be a currency of ISO 4217, such as INR",
        ),
        (
            "PUT /accounts/{id}",
            "owner",
            "a\x1bb",
            "must not contain U+001B, which is invisible",
        ),
        (
            "POST /valet-keys",
            "upload.sha256",
            "A" * 64,
            "must be 64 digits of lower-case hex",
        ),
        (
            "POST /webhooks",
            "events",
            ["Recourse.Order"],
            "must have 1 to 200 characters of a-z, 0-9, '_', '.', '-' and '*'",
        ),
        ("POST /webhooks", "events", ["******"], "must have at most 5 asterisks, got 6"),
    ],
)
def test_a_refusal_has_the_reason_in_words(
    shared: Ground, name: str, path: str, value: Any, message: str
) -> None:
    found = problem(
        call(BY_NAME[name], changed(BY_NAME[name].example, path, value)), 422, "invalid"
    )
    (error,) = found["errors"]
    assert error["field"].startswith(path) and error["message"] == message
    assert found["detail"] == f"{error['field']}: {message}"


@pytest.mark.parametrize("key", ["ключ", "é", "\u202e", "a\tb", ""])
def test_an_idempotency_key_is_ascii_and_its_header_is_named(shared: Ground, key: str) -> None:
    answer = asha("POST", "/sagas/travel-booking", TRIP, Idempotency_Key=key)
    found = problem(answer, 400, "idempotency-key-missing")
    assert "Idempotency-Key" in found["detail"]


digits = st.text("0123456789٣²+-_ ", max_size=24) | st.integers().map(str)


@examples(120)
@given(where=st.sampled_from(INTEGERS), text=digits, zeros=st.integers(0, 30))
def test_an_integer_of_a_query_is_within_its_bounds_or_named(
    shared: Ground, where: tuple[str, str], text: str, zeros: int
) -> None:
    name, parameter = where
    operation = BY_NAME[name]
    (schema,) = (one["schema"] for one in operation.says["parameters"] if one["name"] == parameter)
    text = "0" * zeros + text
    is_within = (
        text.isascii() and text.isdigit() and (schema["minimum"] <= int(text) <= schema["maximum"])
    )
    if parameter == "wait" and is_within and int(text):
        return  # it waits
    answer = call(operation, None, urlencode({parameter: text}))
    if is_within:
        assert answer.status in (200, 404)
    elif answer.status != 404:
        assert problem(answer, 422, "invalid")["errors"][0]["field"] == parameter


QUERIES = [
    (str(one), parameter["name"])
    for one in OPERATIONS
    for parameter in one.says.get("parameters", [])
    if parameter["in"] == "query"
]


@pytest.mark.parametrize(("name", "parameter"), QUERIES)
def test_an_empty_parameter_is_none_or_named(shared: Ground, name: str, parameter: str) -> None:
    if name == "GET /webhooks/{webhook_id}/deliveries":
        return  # a webhook is not on this ground: tests/webhooks
    operation = BY_NAME[name]
    if "key_id" in operation.in_path:
        key = CALLER("POST", "/valet-keys", {"operation": "download", "object": "a"}).json["key_id"]
        operation = replace(operation, path=operation.path.replace("{key_id}", key))
    if operation.path.endswith("/reverse"):
        saga = asha.start(TRIP).json["saga_id"]
        operation = replace(operation, path=operation.path.replace("{saga_id}", saga))
    with leaping():
        answer = call(operation, operation.example, f"{parameter}=")
        if parameter == "after":  # a client that has no cursor yet
            without = call(operation, operation.example)
            assert (answer.status, answer.text) == (without.status, without.text)
            return
    assert answer.status in (400, 422)
    assert parameter in answer.json["detail"], answer
    if answer.json["type"].endswith(":invalid"):
        assert [one["field"] for one in answer.json["errors"]] == [parameter]


@pytest.mark.parametrize("text", ["0000000009999999", "000000001000000000", "²", "٣", "9" * 5000])
def test_no_digits_hold_a_function_or_read_everything(shared: Ground, text: str) -> None:
    began = time.monotonic()
    for query in (f"/events?{urlencode({'wait': text})}", f"/sagas?{urlencode({'limit': text})}"):
        problem(asha("GET", query), 422, "invalid")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("subject", ["", "x" * 257, "x" * 2046, "a\u202eb", "\x00", "\u3164"])
def test_a_subject_that_cannot_own_anything_is_a_401(shared: Ground, subject: str) -> None:
    stranger = Caller(subject, "sagas:read sagas:write valet:issue operator")
    for method, path in (("GET", "/sagas"), ("GET", "/events"), ("GET", "/flights/AI-202")):
        found = problem(stranger(method, path), 401, "unauthorized")
        assert "subject" in found["detail"]
    problem(stranger.start(), 401, "unauthorized")


@pytest.mark.parametrize("subject", ["auth0|5f7c", "महेश", "x" * 256, "o'brien@example.com"])
def test_a_subject_in_any_script_owns_what_it_starts(shared: Ground, subject: str) -> None:
    who = Caller(subject)
    started = who.start().json
    assert started["owner"] == subject
    assert who.get(started["saga_id"]).status == 200
