"""What the description says of valet keys, against what is answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import schemathesis
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.description import DESCRIPTION
from tests.profile import examples
from tests.valet.conftest import Ground

standing: list[Ground] = []


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The API as a WSGI application, on the ground that stands."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
    answer = standing[-1].call(
        environ["REQUEST_METHOD"],
        f"{path}?{environ['QUERY_STRING']}".rstrip("?"),
        environ["wsgi.input"].read(length) if length else None,
        Content_Type=environ.get("CONTENT_TYPE") or "application/json",
    )
    start_response(f"{answer.status} -", list(answer.headers.items()))
    return [answer.text.encode()]


described = schemathesis.openapi.from_dict(DESCRIPTION)
described.app = wsgi
schema = described.include(path_regex=r"^/(valet-keys|v/|\.well-known)")


@schema.parametrize()
@examples(25)  # for each of the operations
def test_every_answer_is_as_described(valet: Ground, case: Case[Any]) -> None:
    standing.append(valet)
    case.call_and_validate(
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ]
    )


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
