"""What the author of a step is given, and what a step's function loads for it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from recourse.declare.ids import SagaId
from recourse.declare.step import Action, Call, Nothing, Undo
from recourse.functions import settings, step
from recourse.run.fault_injector import FaultInjector
from recourse.run.runner import StepRunner
from services import flights

SAGA = SagaId("5a9a1d" + "0" * 26)
CALL: Call = Call(SAGA, "shop", "pay", "ann", "o-1", "2026-11-24T08:00:00Z", Nothing(), {})


def test_a_call_without_a_deadline_has_all_the_time_there_is() -> None:
    assert CALL.remaining() == math.inf
    assert min(CALL.remaining(), 10) == 10


def test_a_call_says_how_long_a_provider_may_still_be_called() -> None:
    now = datetime.now(UTC)
    assert 0 < replace(CALL, deadline=now + timedelta(hours=1)).remaining() <= 3600
    assert replace(CALL, deadline=now - timedelta(seconds=1)).remaining() == 0


def test_a_function_finds_what_its_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION", flights.hold.ref)
    monkeypatch.setenv("UNDO", "")
    assert settings.declared("ACTION", Action) is flights.hold
    assert settings.declared("UNDO", Undo) is None
    monkeypatch.setenv("UNDO", flights.hold.ref)
    with pytest.raises(RuntimeError, match=r"UNDO must name an @undo.*services\.flights:hold"):
        settings.declared("UNDO", Undo)


def test_a_task_is_told_when_its_process_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    runner = mock.Mock(run=asked.append)
    monkeypatch.setattr(step, "runner", lambda: runner)
    monkeypatch.setattr(step, "metrics", mock.Mock())
    saga = {"id": SAGA, "name": "shop"}
    event = {"saga": saga, "step": "pay", "phase": "action"}
    context: Any = mock.Mock(get_remaining_time_in_millis=lambda: 29_500)
    step.handler(event, context)
    assert asked == [event | {"lasts": 29.5}]


@pytest.mark.parametrize(("chaos", "kind"), [("", StepRunner), ("on", FaultInjector)])
def test_faults_reach_a_step_only_where_its_stage_has_them_switched_on(
    monkeypatch: pytest.MonkeyPatch, chaos: str, kind: type
) -> None:
    told = {"ACTION": flights.hold.ref, "TABLE_NAME": "flights", "CHAOS": chaos}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    made: Any = step.runner.__wrapped__()
    assert type(made) is kind
    runner = vars(made).get("runner", made)
    assert (runner.table, runner.action, runner.undo) == ("flights", flights.hold, None)


def test_the_function_of_a_step_loads_its_own_service_and_no_declaration() -> None:
    """Every start of a function pays for what it loads."""
    loads = (
        "import sys; from recourse.functions import step;"
        "step.settings.declared('ACTION', step.Action);"
        "print(*(name for name in sys.modules if name.startswith(('recourse', 'services'))))"
    )
    environment = os.environ | {"ACTION": flights.hold.ref, "AWS_DEFAULT_REGION": "us-east-1"}
    environment |= {"POWERTOOLS_METRICS_NAMESPACE": "t", "POWERTOOLS_SERVICE_NAME": "t"}
    ran = subprocess.run(
        [sys.executable, "-c", loads], env=environment, capture_output=True, text=True, check=True
    )
    loaded = set(ran.stdout.split())
    assert {"recourse.declare.step", "services.flights"} <= loaded
    assert not loaded & {
        "recourse.declare.saga",
        "recourse.declare.request",
        "recourse.declare.declaration",
        "recourse.declare.checks",
        "recourse.run.fault_injector",
        "recourse.run.faults",
    }
    assert {name for name in loaded if name.startswith("services.")} == {
        "services.flights",
        "services.counted",
        "services.holds",
    }
