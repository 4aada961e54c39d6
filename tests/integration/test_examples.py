"""The examples of the API's description: each works as it is, with what the seed puts.

Those of webhooks are tried where webhooks are (`tests/webhooks/test_description.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from recourse.declare.reverse import reversed_by
from statemachines import SAGAS
from tests.description import OPERATIONS, Described
from tests.ground import Ground, ground
from tests.integration.calling import Caller
from tests.integration.importing import begin as begin_import
from tests.integration.importing import upload
from tests.integration.test_api import standing

SEED = Path(__file__).parents[2] / "samples" / "seed.json"
FORM = "application/x-www-form-urlencoded"
EXAMPLES = [
    one
    for one in OPERATIONS
    if not one.path.startswith("/webhooks")
    and (one.example is not None or any(one.in_path.values()))
]


@pytest.fixture(scope="module")
def seeded() -> Iterator[Ground]:
    """A ground on which the API stands, with what the seed puts by that very API."""
    with ground() as made, standing(made):
        for kind, things in json.loads(SEED.read_text()).items():
            for thing, body in things.items():
                put = Caller("olga", "operator")("PUT", f"/{kind}/{thing}", body)
                assert put.status == 201, put
        yield made


@pytest.fixture(scope="module")
def made(seeded: Ground) -> dict[str, str]:
    """What some paths name and no example can, since it is only made by calls."""
    starts = {one.path.removeprefix("/sagas/"): one for one in EXAMPLES}
    saga = next(one for one in SAGAS.values() if one.reverse and one.name in starts)
    step = saga.all[-1].name

    def begin(key: str, **headers: str) -> str:
        example = starts[saga.name].example
        headers |= {"Idempotency_Key": key}
        answer = Caller("asha", "sagas:write")("POST", f"/sagas/{saga.name}", example, **headers)
        assert answer.status == 202, answer
        seeded.settle()
        return str(answer.json["saga_id"])

    def asking() -> str:
        """A visit whose claim any insurer may decide."""
        olga, policy = Caller("olga", "operator"), {"covers": {"percent": 50}, "decision": "manual"}
        assert olga("PUT", "/policies/decided", policy).status == 201
        visit = starts["visit"].example | {"policy_id": "decided"}
        answer = Caller("asha", "sagas:write")("POST", "/sagas/visit", visit, Idempotency_Key="ask")
        assert answer.status == 202, answer
        seeded.settle()
        return str(answer.json["saga_id"])

    def stopped() -> str:
        """An import of the file that the example names, more of which is bad than is tolerated."""
        example = starts[saga.name].example
        rows = [example | {saga.business_key: f"row-{number}"} for number in range(2)]
        text = "".join(json.dumps(one) + "\n" for one in (*rows, {}))
        upload("trips.csv", text, kind="application/x-ndjson")
        answer = begin_import("trips.csv", saga.name, key="stopped", tolerated_failures=10)
        assert answer.json["status"] == "STOPPED", answer
        return str(answer.json["import_id"])

    return {
        "import_id": stopped(),
        "id": asking(),
        "saga_id": begin("stuck", Recourse_Chaos=f"{step}=error:16"),
        "succeeded": begin("succeeded"),
        "step": step,
        "name": next(iter(seeded.deadletters)),
    }


@pytest.mark.parametrize("operation", EXAMPLES, ids=str)
def test_an_example_works_as_it_is(made: dict[str, str], operation: Described) -> None:
    known = made | ({"saga_id": made["succeeded"]} if operation.path.endswith("/reverse") else {})
    path = operation.path.format(**{n: one or known[n] for n, one in operation.in_path.items()})
    headers, body = {"Idempotency_Key": f"example of {operation}"}, operation.example
    if FORM in operation.says.get("requestBody", {"content": {}})["content"]:
        headers["Content_Type"], body = FORM, urlencode(body).encode()
    who = Caller("asha", operation.scope or "")
    answer = who(operation.method, path, body, **headers)
    assert 200 <= answer.status < 300, answer


@pytest.mark.of_all
def test_there_are_examples_of_all_that_a_newcomer_begins_with() -> None:
    have = {str(one) for one in EXAMPLES}
    assert have >= {f"POST /sagas/{saga}" for saga in SAGAS if saga not in reversed_by(SAGAS)}
    assert have >= {f"PUT /{kind}/{{id}}" for kind in json.loads(SEED.read_text())}
    assert "POST /valet-keys" in have
