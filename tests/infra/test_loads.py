"""What each function loads when it starts: every import is paid for at every cold start.

Rooms are the packages of the library; what every function loads of it is not in the table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.infra.assembly import ROOT, Assembly
from tests.infra.test_functions import LISTENING, STEPS, handled_by

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.of_all]

EVERYWHERE = {"declare", "errors", "functions", "store", "text"}
HEAVY = {
    *("annotated_types", "aws_cdk", "aws_lambda_powertools", "babel", "boto3", "cryptography"),
    *("fontTools", "fpdf", "httpx", "jwt", "pydantic", "rich", "typer"),
    *("uharfbuzz", "uvicorn"),
}
OURS = {"lambdas", "services", "statemachines"}
POWERTOOLS, JWT = "aws_lambda_powertools", ("jwt", "cryptography")
STEP = {"events", "run", POWERTOOLS, "services"}
LOADS: Mapping[str, set[str]] = {
    "lambdas.api": {
        *("events", "feed", "imports", "ledger", "problems", "run", "valet"),
        *("lambdas", "services"),
        *("annotated_types", POWERTOOLS, "cryptography"),
    },
    "lambdas.probe": {"events", "queues", "lambdas"},
    "recourse.functions.authorise": {POWERTOOLS, *JWT},
    "recourse.functions.confirm": {"events", "ledger", "queues", "run", POWERTOOLS},
    "recourse.functions.feed": {"events", "feed", "queues", POWERTOOLS},
    "recourse.functions.import_files": {"events", "imports", "ledger", "run", POWERTOOLS},
    "recourse.functions.import_starts": {"events", "imports", "ledger", "run", POWERTOOLS},
    "recourse.functions.ledger": {"events", "ledger", "queues", POWERTOOLS},
    "recourse.functions.park": {"events", "run", POWERTOOLS},
    "recourse.functions.pre_token": set(),
    "recourse.functions.push": {"events", "feed", "problems", "queues", POWERTOOLS},
    "recourse.functions.relay": {"events", "queues", POWERTOOLS},
    "recourse.functions.sse": {"events", "feed", "problems", *JWT},
    "recourse.functions.step": STEP,
    "recourse.functions.step_queue": STEP | {"choreography", "ledger", "queues"},
    "recourse.functions.sweeper": {POWERTOOLS},
    "recourse.functions.valet": {"events", "problems", "valet", "cryptography"},
    "recourse.functions.valet_commit": {
        *("events", "problems", "valet", "cryptography", POWERTOOLS),
    },
    "recourse.functions.webhook_deliver": {"events", "feed", "queues", "webhooks", POWERTOOLS},
    "recourse.functions.webhook_dispatch": {"events", "feed", "queues", "webhooks", POWERTOOLS},
    "recourse.functions.websocket": {"events", "feed", "problems", POWERTOOLS},
}
"""By handler's module, what it loads of all this; one that listens has a rule of its own."""
LISTENERS_MAY = {"events", "ledger", "problems", "queues", "run", POWERTOOLS, "lambdas"}


@dataclass(frozen=True)
class Started:
    """A function that has started, by the names of the modules that this loaded."""

    name: str
    module: str
    action: str
    loaded: frozenset[str]

    @property
    def noted(self) -> set[str]:
        """What the table is about, of what it loaded."""
        packages = {name.partition(".")[0] for name in self.loaded}
        rooms = {name.split(".")[1] for name in self.loaded if name.startswith("recourse.")}
        return (packages & (HEAVY | OURS)) | (rooms - EVERYWHERE)


@pytest.fixture(scope="module")
def started(dev: Assembly, fargate: Assembly) -> list[Started]:
    """Every function, started in a process of its own; those that start alike, once."""
    handlers: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for assembly in (dev, fargate):
        for function in assembly.every("AWS::Lambda::Function"):
            module, attribute = handled_by(function)
            told = assembly.environment(function)
            handlers.setdefault(
                (module, told.get("ACTION", "")),
                (function.name, {"attribute": attribute, "environment": told}),
            )
    asked = [{"module": module} | about for (module, _), (_, about) in handlers.items()]
    paths = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("loading.py")],
        input=json.dumps(asked),
        env=paths | {"AWS_DEFAULT_REGION": "us-east-1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [
        Started(name, module, action, frozenset(loaded))
        for ((module, action), (name, _)), loaded in zip(
            handlers.items(), json.loads(done.stdout), strict=True
        )
    ]


def test_a_function_loads_what_it_needs_and_nothing_else(started: list[Started]) -> None:
    wrong = {
        one.name: sorted(one.noted ^ LOADS[one.module])
        for one in started
        if one.name not in LISTENING and one.noted != LOADS[one.module]
    }
    assert wrong == {}


def test_the_table_has_no_handler_that_is_not_deployed(started: list[Started]) -> None:
    assert LOADS.keys() <= {one.module for one in started}


def test_what_listens_loads_neither_services_nor_declarations_nor_the_api(
    started: list[Started],
) -> None:
    listening = [one for one in started if one.name in LISTENING]
    assert listening
    for one in listening:
        assert one.noted <= LISTENERS_MAY, one.name
        ours = {name for name in one.loaded if name.startswith("lambdas.")}
        package = one.module.rpartition(".")[0]
        assert ours == {package, one.module}, one.name


def test_a_step_loads_its_own_service_and_no_other(started: list[Started]) -> None:
    of_steps = [one for one in started if one.action]
    assert {one.action for one in of_steps} == {step.action.ref for step in STEPS.values()}
    # What is not a service may be loaded by several: rules that they share.
    services = {one.action.partition(":")[0] for one in of_steps} | {"services.holdings"}
    for one in of_steps:
        assert services & one.loaded == {one.action.partition(":")[0]}, one.name
