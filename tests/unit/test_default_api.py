"""A project that has no routes of its own has an API all the same, of the sagas that it lists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SHOP = """
from dataclasses import dataclass

from recourse import Call, Decision, Saga, Step, action, request_model

@request_model
class Sale:
    sale_id: str

@dataclass(frozen=True)
class Ask:
    sale_id: str

@action(Ask)
def sell(call: Call[Ask]) -> Decision[None]:
    return Decision(result=None)

STEPS = [Step("sell", sell, takes=["sale_id"], pivot=True)]
SAGAS = {"sale": Saga("sale", request=Sale, business_key="sale_id", steps=STEPS)}
"""
PROJECT = """
[tool.recourse]
sagas = "shop:SAGAS"
packages = ["shop"]
requirements = "pins.lock"
"""
ANSWERS = """
import json, sys
from recourse.functions.api.default import handler
def get(path):
    request = {"stage": "$default", "http": {"method": "GET"}}
    return handler({"rawPath": path, "headers": {}, "requestContext": request}, None)
answers = [get(path) for path in sys.argv[1:] or ("/health", "/openapi.json", "/flights/f-1")]
print(json.dumps([[one["statusCode"], json.loads(one["body"])] for one in answers]))
print(*sys.modules)
"""


EVERYTHING = {
    "VALET_TABLE": "keys",
    "IMPORTS_TABLE": "imports",
    "WEBHOOKS_TABLE": "hooks",
    "CHOREOGRAPHY": "on",
}
"""What the API's function is told by an app that has every capability."""
TOLD = {
    "RECOURSE_SAGAS": "shop:SAGAS",
    "AWS_DEFAULT_REGION": "us-east-1",
    "POWERTOOLS_SERVICE_NAME": "test",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text(SHOP)
    return tmp_path


def run(project: Path, *command: str, **told: str) -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{project}:{ROOT}"} | told
    done = subprocess.run(
        [sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_described_and_answers_without_anything_of_this_deployment(project: Path) -> None:
    run(project, "-m", "recourse", "compile", "--folder", "shop")
    written = json.loads((project / "shop" / "openapi.json").read_text())
    assert [path for path in written["paths"] if path.startswith("/sagas/sale")] == ["/sagas/sale"]
    assert written["components"]["schemas"]["Saga"]["properties"]["saga"]["enum"] == ["sale"]
    said = run(
        project,
        *("-c", ANSWERS),
        RECOURSE_SAGAS="shop:SAGAS",
        AWS_DEFAULT_REGION="us-east-1",
        POWERTOOLS_SERVICE_NAME="test",
        SSE_URL="https://sse",
        WEBSOCKET_URL="wss://ws",
        **EVERYTHING,
    )
    answers, loaded = said.splitlines()
    (well, health), (described, document), (unknown, _) = json.loads(answers)
    assert (well, described, unknown) == (200, 200, 404)
    assert health["version"] == written["info"]["version"]
    assert document == written
    rooms = {name.partition(".")[0] for name in loaded.split()}
    assert "recourse" in rooms
    assert not {"lambdas", "services", "statemachines", "pydantic"} & rooms


def described(project: Path, **told: str) -> Any:
    """The description that an API answers, which refers to nothing that it leaves out."""
    said = run(project, "-c", ANSWERS, "/openapi.json", **TOLD, **told)
    ((status, document),) = json.loads(said.splitlines()[0])
    assert status == 200
    kinds = "schemas", "responses"
    there = {
        f"#/components/{kind}/{name}" for kind in kinds for name in document["components"][kind]
    }
    asked = set(re.findall(r'"(#/components/[^"]+)"', json.dumps(document)))
    assert asked <= there and there - asked <= {"#/components/responses/not-allowed"}
    return document


def test_it_is_described_as_what_the_app_has(project: Path) -> None:
    run(project, "-m", "recourse", "compile", "--folder", "shop")
    written = json.loads((project / "shop" / "openapi.json").read_text())
    bare = described(project)
    lacking = ("/valet-keys", "/v/", "/imports", "/webhooks", "/.well-known")
    assert bare["paths"].keys() == {one for one in written["paths"] if not one.startswith(lacking)}
    tags = {"Valet keys", "Redeeming", "Imports", "Webhooks"}
    assert [one for one in written["tags"] if one["name"] not in tags] == bare["tags"]
    assert written["info"] == bare["info"]
    left = written["components"]["schemas"].keys() - bare["components"]["schemas"].keys()
    assert {"ValetKey", "Webhook", "SignedRequest"} <= left and "Problem" not in left
    (start,) = bare["paths"]["/sagas/sale"].values()
    (how,) = [one["schema"] for one in start["parameters"] if one["name"] == "coordination"]
    assert how["enum"] == ["orchestration"]
    hooks = described(project, WEBHOOKS_TABLE="hooks", CHOREOGRAPHY="on")
    assert "/webhooks" in hooks["paths"] and "/valet-keys" not in hooks["paths"]
    (start,) = hooks["paths"]["/sagas/sale"].values()
    (how,) = [one["schema"] for one in start["parameters"] if one["name"] == "coordination"]
    assert how["enum"] == ["orchestration", "choreography"]


def test_an_app_that_was_never_compiled_says_so(project: Path) -> None:
    said = run(project, "-c", ANSWERS, "/openapi.json", "/docs", **TOLD)
    for status, problem in json.loads(said.splitlines()[0]):
        assert status == 404
        assert problem["detail"] == (
            "this API has no description: `recourse compile` writes openapi.json"
        )


def test_it_starts_without_what_runs_steps_signs_urls_or_validates(project: Path) -> None:
    """Every start of a function pays for what it loads."""
    code = "import sys; from recourse.functions.api.default import handler; print(*sys.modules)"
    told = {"POWERTOOLS_SERVICE_NAME": "test", "RECOURSE_SAGAS": "shop:SAGAS"}
    loaded = set(run(project, "-c", code, AWS_DEFAULT_REGION="us-east-1", **told).split())
    assert {"recourse.run.faults", "recourse.valet.names"} <= loaded
    unneeded = {"recourse.run.task", "recourse.run.fault_injector", "recourse.valet.objects"}
    assert not loaded & (unneeded | {"pydantic"})


def test_what_is_named_as_an_api_and_is_not_one_is_refused(project: Path) -> None:
    for api, said in (
        ("shop:NOTHING", "no API is at 'shop:NOTHING'"),
        ("shop:SAGAS", "shop:SAGAS must be an Api, got {"),
    ):
        (project / "pyproject.toml").write_text(PROJECT + f'api = "{api}"\n')
        with pytest.raises(AssertionError) as refused:
            run(project, "-m", "recourse", "compile", "--folder", "shop")
        assert said in str(refused.value).replace("\n", " ")


MISSING = [
    ("GET", "/valet-keys/key-1"),
    ("POST", "/valet-keys"),
    ("POST", "/valet-keys/redeem"),
    ("GET", "/v/token"),
    ("GET", "/.well-known/jwks.json"),
    ("POST", "/imports"),
    ("GET", "/imports/import-1"),
    ("PATCH", "/webhooks"),
    ("POST", "/webhooks"),
    ("DELETE", "/webhooks/hook-1"),
    ("GET", "/events/ws"),
]
"""Calls of what an app may lack, each of which may have something else wrong with it as well."""
CAPABILITIES = """
import json, sys
from recourse.functions.api.default import handler
SCOPES = "sagas:read sagas:write valet:issue webhooks:write"
MISSING = json.loads(sys.argv[1])
def call(method, path, authorizer={"lambda": {"sub": "asha", "scope": SCOPES}}):
    request = {"stage": "$default", "http": {"method": method}, "authorizer": authorizer}
    sent = {"rawPath": path, "headers": {}, "requestContext": request, "body": "{}"}
    answer = handler(sent, None)
    return [answer["statusCode"], json.loads(answer["body"])]
print(json.dumps([
    call("GET", "/health"),
    call("GET", "/valet-keys"),
    call("GET", "/webhooks"),
    *(call(method, path) for method, path in MISSING),
    call("POST", "/sagas/nothing"),
    call("POST", "/sagas/nothing", {"lambda": {"sub": "asha", "scope": "sagas:read"}}),
    call("POST", "/sagas/nothing", {"lambda": {"sub": 7, "scope": "sagas:write"}}),
    call("POST", "/sagas/nothing", {"lambda": None}),
]))
"""


def test_what_an_app_does_not_have_is_not_there_and_the_rest_knows_who_calls(
    project: Path,
) -> None:
    """The caller is whom an authorizer of the app's own has named."""
    said = run(
        project,
        *("-c", CAPABILITIES, json.dumps(MISSING)),
        RECOURSE_SAGAS="shop:SAGAS",
        AWS_DEFAULT_REGION="us-east-1",
        POWERTOOLS_SERVICE_NAME="test",
    )
    health, keys, hooks, *others = json.loads(said)
    missing, started = others[: len(MISSING)], others[len(MISSING) :]
    assert [(*asked, status) for asked, (status, _) in zip(MISSING, missing, strict=True)] == [
        (*asked, 404) for asked in MISSING
    ]
    assert (health[0], health[1]["events"]) == (200, {})
    assert (keys[0], keys[1]["detail"]) == (404, "this API has no valet keys")
    assert (hooks[0], hooks[1]["detail"]) == (404, "this API has no webhooks")
    assert [status for status, _ in started] == [404, 403, 401, 401]
