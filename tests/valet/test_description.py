"""What the description says of valet keys, against what is answered."""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from schemathesis import Case

from tests.description import DESCRIPTION
from tests.fuzzing import CHECKS, application
from tests.profile import examples
from tests.valet.conftest import Ground

standing: list[Ground] = []


def called(method: str, target: str, body: Any, **headers: str) -> Any:
    """A call of the API on the ground that stands."""
    content_type = headers.get("Content_Type", "application/json")
    return standing[-1].call(method, target, body, content_type=content_type)


described = schemathesis.openapi.from_dict(DESCRIPTION)
described.app = application(called)
schema = described.include(path_regex=r"^/(valet-keys|v/|\.well-known)")


@schema.parametrize()
@examples(25)  # for each of the operations
def test_every_answer_is_as_described(valet: Ground, case: Case[Any]) -> None:
    standing.append(valet)
    case.call_and_validate(checks=CHECKS)


def test_a_keys_whole_life_is_as_described(valet: Ground) -> None:
    """Those answers that no generated request comes by."""
    schemas = DESCRIPTION["components"]["schemas"]
    issued = valet.issue()
    redeemed = valet.redeem(issued["token"]).json
    valet.land(issued["key_id"])
    done = valet.complete(issued["key_id"]).json
    shown = valet.show(issued["key_id"]).json
    for name, answer in (
        ("IssuedKey", issued),
        ("SignedRequest", redeemed),
        ("Committed", done),
        ("AuditedKey", shown),
    ):
        assert set(answer) == set(schemas[name]["properties"]), json.dumps(answer)
