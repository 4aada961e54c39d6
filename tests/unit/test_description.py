"""The API's description: of every route, with its scope and all that it may be refused with.

It is made when the project is built, and only read where it runs.
"""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import recourse.functions.valet
from lambdas.api import API
from recourse.cli import main
from recourse.functions.api import redeem
from recourse.problems import TYPES, ProblemError, invalid
from tests.description import FILE, OPERATIONS, Described, called

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def capabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that a deployment may have: what it lacks answers 404."""
    monkeypatch.setenv("RECOURSE_SAGAS", "statemachines:SAGAS")
    monkeypatch.setenv("VALET_TABLE", "keys")
    monkeypatch.setenv("WEBHOOKS_TABLE", "hooks")
    monkeypatch.setenv("CHOREOGRAPHY", "on")


def compiled(*arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(main.app, ["compile", *arguments])
    return ended.exit_code, ended.output


def test_the_file_is_what_the_routes_say() -> None:
    assert compiled("--check") == (0, "")


def test_a_stale_file_is_told_of_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / "openapi.json"
    stale.write_text("{}\n")
    monkeypatch.setattr(API, "description", stale)
    status, said = compiled("--check")
    assert status == 1 and "openapi.json" in said.replace("\n", "")
    assert stale.read_text() == "{}\n"
    assert compiled()[0] == 0
    assert stale.read_text() == FILE.read_text()


def test_the_function_that_answers_it_loads_nothing_that_makes_it() -> None:
    asked = {
        "rawPath": "/openapi.json",
        "headers": {},
        "requestContext": {"stage": "$default", "http": {"method": "GET"}},
    }
    code = (
        f"import lambdas.api, sys; print(lambdas.api.handler({asked!r}, None)['statusCode']);"
        "print(*sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT), "POWERTOOLS_SERVICE_NAME": "test"},
        capture_output=True,
        text=True,
        check=True,
    )
    status, *loaded = ran.stdout.split()
    assert status == "200"
    assert "recourse.functions.api.about" in loaded
    assert not {"pydantic", "recourse.functions.api.openapi"} & set(loaded)


# What it describes.

EVERY = API.app._static_routes + API.app._dynamic_routes  # there is no public list of them
ROUTES = [route for route in EVERY if route.method != "HEAD"]
"""A HEAD is described with its GET."""
ELSEWHERE = {f"{method} {path}" for method, path, _ in redeem.routes.operations({})}
HERE = [one for one in OPERATIONS if str(one) not in ELSEWHERE]
MESSAGES = {"not-allowed", "too-many"}
"""Problems of messages, and of methods that no operation has."""


def served(operation: Described) -> Any:
    """The route that answers an operation."""
    path = operation.path.format(**dict.fromkeys(operation.in_path, "x"))
    fitting = (one for one in ROUTES if one.method == operation.method and one.rule.fullmatch(path))
    return next(fitting, None)


def asked(operation: Described, claims: dict[str, str] | None) -> dict[str, Any]:
    """What an operation is answered for, whatever is in its path."""
    path = operation.path.format(**dict.fromkeys(operation.in_path, "x"))
    context: dict[str, Any] = {
        "stage": "$default",
        "http": {"method": operation.method, "path": path},
    }
    if claims:
        context["authorizer"] = {"jwt": {"claims": claims}}
    event = {"version": "2.0", "rawPath": path, "headers": {}, "requestContext": context}
    return dict(API.handler(event, None))


def test_whatever_is_read_answers_head() -> None:
    heads = {route.rule for route in EVERY if route.method == "HEAD"}
    assert heads == {route.rule for route in ROUTES if route.method == "GET"}


def test_every_route_is_described_and_whatever_is_described_has_a_route() -> None:
    found = [served(operation) for operation in HERE]
    assert None not in found
    assert {id(route) for route in found} == {id(route) for route in ROUTES}


def test_an_operation_has_a_name_of_its_own_and_a_group() -> None:
    names = [operation.says["operationId"] for operation in OPERATIONS]
    assert len(names) == len(set(names))
    tags = {tag for operation in OPERATIONS for tag in operation.says["tags"]}
    assert tags == {group.tag for group in API.groups}


@pytest.mark.parametrize("operation", [one for one in HERE if one.scope], ids=str)
def test_an_operation_asks_for_the_scope_that_it_names(operation: Described) -> None:
    assert asked(operation, None)["statusCode"] == 401
    refused = asked(operation, {"sub": "asha", "scope": "nothing"})
    assert refused["statusCode"] == 403
    assert f"this needs the scope {operation.scope!r}" in refused["body"]


def test_what_needs_no_scope_is_open() -> None:
    for operation in HERE:
        if not operation.scope:
            assert asked(operation, None)["statusCode"] not in (
                *(401, 403),
                # A file of the page may be one of the release before.
                *(() if "not-found" in operation.problems else (404,)),
            )


# What an operation may be refused with.


def resolved(node: ast.expr, names: dict[str, Any]) -> Any:
    """What an expression stands for, where it is a name of a module, or of what one imports."""
    match node:
        case ast.Name(name):
            return names.get(name)
        case ast.Attribute(value, attribute):
            return getattr(resolved(value, names), attribute, None)
    return None


def raised(function: Callable[..., Any], seen: set[Any]) -> Iterator[str]:
    """The kinds of the problems that a function makes, or that those make which it calls."""
    function = inspect.unwrap(function)
    if function in seen or not function.__module__.startswith(("lambdas", "recourse.functions")):
        return
    seen.add(function)
    names = vars(sys.modules[function.__module__])
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if not isinstance(node, ast.Call):
            continue
        callee = resolved(node.func, names)
        if callee is ProblemError and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value)
        elif callee is invalid:
            yield "invalid"
        elif inspect.isfunction(callee) or inspect.ismethod(callee):
            yield from raised(callee, seen)


@pytest.mark.parametrize("operation", HERE, ids=str)
def test_a_problem_that_a_route_makes_is_described(operation: Described) -> None:
    kinds = set(raised(served(operation).func, set()))
    assert kinds <= operation.problems
    if operation.scope:
        assert kinds
    else:
        assert kinds <= {"not-found"}, "the scope alone may be refused"


def test_a_problem_that_redeeming_makes_is_described() -> None:
    kinds = set(raised(recourse.functions.valet.handler, set()))
    described = [one.problems for one in OPERATIONS if str(one) in ELSEWHERE]
    assert {"malformed", "invalid", "internal"} <= kinds <= set.union(*described)


def test_whatever_is_in_the_catalogue_some_operation_may_be_refused_with() -> None:
    described = set.union(*(operation.problems for operation in OPERATIONS))
    assert described == set(TYPES) - MESSAGES


def test_a_call_is_of_the_operation_whose_path_is_that_very_path() -> None:
    assert str(called("POST", "/valet-keys/introspect")) == "POST /valet-keys/introspect"
    assert str(called("GET", "/valet-keys/introspect")) == "GET /valet-keys/{key_id}"
    assert called("GET", "/valet-keys/introspect/more") is None
