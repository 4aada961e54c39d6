"""The whole API, fuzzed by its description, with a token and without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import schemathesis
from schemathesis import Case
from schemathesis.core.transport import Response

import lambdas.api
from tests.description import DESCRIPTION, OPERATIONS
from tests.fuzzing import CHECKS, application, leaping
from tests.ground import Ground
from tests.integration.calling import TRAVELLER, Caller
from tests.integration.test_api import nobody, problem
from tests.integration.test_api import shared as shared
from tests.profile import examples
from tests.valet.conftest import gateway


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Nothing waits, so that a stream can be fuzzed as well."""
    with leaping():
        yield


@pytest.fixture
def redeeming() -> Iterator[None]:
    """What is called by a valet key's token reaches the function that redeems it."""
    with mock.patch.object(lambdas.api, "handler", gateway):
        yield


with_token = schemathesis.openapi.from_dict(DESCRIPTION)
with_token.app = application(Caller("schema", f"operator {TRAVELLER}"))
# Valet keys and webhooks have grounds of their own: tests/valet and tests/webhooks.
of_sagas = with_token.exclude(path_regex=r"^/(valet-keys|v/|webhooks|\.well-known)")
without_token = schemathesis.openapi.from_dict(DESCRIPTION)
without_token.app = application(nobody)


@of_sagas.parametrize()
@examples(25)  # for each of the operations
def test_every_answer_is_as_described(shared: Ground, case: Case[Any]) -> None:
    case.call_and_validate(checks=CHECKS)


def nothing_is_done(ctx: Any, response: Response, case: Case[Any]) -> None:
    """Who has no token is told so, or that the call is none."""
    if case.operation.definition.raw["security"]:
        assert response.status_code in (400, 401, 404, 405), response.status_code


@without_token.parametrize()
@examples(6)  # for each of the operations: hardly any comes further than its token
def test_without_a_token_every_answer_is_as_described(
    shared: Ground, redeeming: None, case: Case[Any]
) -> None:
    case.call_and_validate(checks=[*CHECKS, nothing_is_done])


# Methods and paths that there are not.

PATHS = sorted({one.path for one in OPERATIONS})


def example(path: str) -> str:
    """A path with something in each of its parts."""
    return path.replace("{", "").replace("}", "")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("who", [nobody, Caller("schema", f"operator {TRAVELLER}")], ids=["no", ""])
def test_another_method_is_a_405_that_says_which_there_are(
    shared: Ground, path: str, who: Caller
) -> None:
    there = {one.method for one in OPERATIONS if one.fits(one.method, example(path))}
    # Which sagas there are is a matter of the deployment: a start of another is a 404.
    there |= {"POST"} if path == "/sagas/{saga_id}" else set()
    # A link of a valet key is used, not read.
    there |= {"HEAD"} if "GET" in there and path != "/v/{token}" else set()
    for method in {"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"} - there:
        answer = who(method, example(path))
        found = problem(answer, 405, "not-allowed")
        assert answer.headers["allow"] == ", ".join(sorted(there)) and method in found["detail"]


def test_a_head_of_what_cannot_be_read_is_a_405(shared: Ground) -> None:
    for path in ("/webhooks/w/test", "/valet-keys/k/complete", "/v/token"):
        answer = nobody("HEAD", path)
        assert (answer.status, answer.text) == (405, "") and "HEAD" not in answer.headers["allow"]


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/nothing/at-all", "/flights", ""])
def test_a_path_is_exact_and_a_slash_more_is_another(shared: Ground, path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        problem(nobody(method, example(path) + "/"), 404, "not-found")
    if path not in PATHS:
        problem(nobody("GET", path or "/"), 404, "not-found")
