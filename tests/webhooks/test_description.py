"""What the API refuses about webhooks, and what the description says of its answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from schemathesis import Case

from tests.description import DESCRIPTION, OPERATIONS, Described
from tests.fuzzing import CHECKS, application
from tests.profile import examples
from tests.webhooks.conftest import URL, Ground, ground, problem


@pytest.fixture(scope="module")
def shared() -> Iterator[Ground]:
    """A ground for what leaves no trace on it."""
    with ground() as made:
        yield made


@pytest.mark.parametrize(
    ("body", "status", "kind", "field"),
    [
        (b"{", 400, "malformed", None),
        (b"[]", 422, "invalid", ""),
        ({}, 422, "invalid", "url"),
        ({"url": 1}, 422, "invalid", "url"),
        ({"url": "http://a.example/"}, 422, "invalid", "url"),
        ({"url": "https://u:p@a.example/"}, 422, "invalid", "url"),
        ({"url": URL, "secret": "x"}, 422, "invalid", "secret"),
        ({"url": URL, "events": []}, 422, "invalid", "events"),
        ({"url": URL, "events": ["*"] * 21}, 422, "invalid", "events"),
        ({"url": URL, "events": ["Recourse.Order"]}, 422, "invalid", "events.0"),
        ({"url": URL, "events": ["[a-z]*"]}, 422, "invalid", "events.0"),
        ({"url": URL, "events": ["******"]}, 422, "invalid", "events.0"),
        ({"url": URL, "events": "*"}, 422, "invalid", "events"),
    ],
)
def test_what_cannot_be_registered_is_refused_with_the_field(
    shared: Ground, body: Any, status: int, kind: str, field: str | None
) -> None:
    found = problem(shared.call("POST", "/webhooks", body, subject="olga"), status, kind)
    assert [error["field"] for error in found.get("errors", [])] == (
        [] if field is None else [field]
    )
    assert shared.call("GET", "/webhooks", subject="olga").json["items"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "event_id"),
        ({"event_id": "a.1", "from": "2026-01-01"}, "event_id"),
        ({"from": "2026-01-01"}, "event_id"),
        ({"from": "soon", "to": "2026-01-01"}, "from"),
        ({"from": "2026-01-02", "to": "x"}, "to"),
        ({"from": "2026-01-02", "to": "2026-01-01"}, "to"),
        ({"event_id": 1}, "event_id"),
        ({"event_id": "a.1", "more": 1}, "more"),
    ],
)
def test_what_cannot_be_replayed_is_refused_with_the_field(
    shared: Ground, body: Any, field: str
) -> None:
    found = problem(shared.do(shared.register(), "replay", body), 422, "invalid")
    assert found["errors"][0]["field"] == field


standing: list[Ground] = []


def called(method: str, target: str, body: Any, **headers: str) -> Any:
    """A call of the API on the ground that stands."""
    content_type = headers.get("Content_Type", "application/json")
    return standing[-1].call(method, target, body, content_type=content_type)


described = schemathesis.openapi.from_dict(DESCRIPTION)
described.app = application(called)
schema = described.include(path_regex=r"^/webhooks")


@schema.parametrize()
@examples(12)  # for each of the operations
def test_every_answer_is_as_described(shared: Ground, case: Case[Any]) -> None:
    standing.append(shared)
    case.call_and_validate(checks=CHECKS)


def test_a_webhooks_whole_life_is_as_described(shared: Ground) -> None:
    """Those answers that no generated request comes by."""
    schemas = DESCRIPTION["components"]["schemas"]
    made = shared.register()
    shared.do(made, "test")
    shared.run()
    for name, answer in (
        ("WebhookWithSecret", made),
        ("WebhookWithSecret", shared.do(made, "rotate").json),
        ("Webhook", shared.do(made, "enable").json),
        ("Webhook", shared.show(made)),
        ("Delivery", shared.log(made)[0]),
    ):
        assert set(answer) == set(schemas[name]["properties"]), name


@pytest.mark.parametrize(
    "operation",
    [one for one in OPERATIONS if one.path.startswith("/webhooks") and one.example],
    ids=str,
)
def test_an_example_works_as_it_is(shared: Ground, operation: Described) -> None:
    webhook = shared.register(subject="examples")
    path = operation.path.format(**webhook)
    answer = shared.call(operation.method, path, operation.example, subject="examples")
    assert 200 <= answer.status < 300, answer
