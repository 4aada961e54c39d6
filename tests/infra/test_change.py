"""What sagas in flight need stays in the templates: all that a recorded shape of theirs names."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recourse.declare import shape
from recourse.declare.saga import Saga
from recourse.declare.shape import ShapeError
from recourse.orchestration.compiler import compile_saga
from recourse.project import SHAPES
from recourse.queues.called import confirmer
from statemachines import SAGAS
from statemachines.card_order import CARD_ORDER
from tests.infra.assembly import Assembly, must_come_first, must_hear_first, synthesise
from tests.integration.test_change import BEFORE, CAPTURE, HOTEL, payment, stay

pytestmark = pytest.mark.xdist_group("infra")

NOW = stay(HOTEL, payment(["hotel"]), CAPTURE)
"""Two steps fewer than before: no seat is held, and nothing is invoiced."""
EARLIER = {"stay": [BEFORE, NOW], "card-order": [CARD_ORDER]}
"""The shapes that are committed. The second saga is retired."""


@contextmanager
def listed(folder: Path, module: str, shapes: dict[str, list[Any]]) -> Iterator[str]:
    """Where an app lists its sagas, with the shapes of sagas in flight beside that module."""
    (folder / f"{module}.py").write_text("from tests.infra.assembly import LISTED\n")
    for saga, recorded in shapes.items():
        (folder / f"{saga}{SHAPES}").write_text(json.dumps({"shapes": recorded}))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield f"{module}:LISTED"
    sys.modules.pop(module, None)


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[Any]]:
    return {saga: [shape.record(one) for one in shapes] for saga, shapes in EARLIER.items()}


@pytest.fixture(scope="module")
def changed(
    tmp_path_factory: pytest.TempPathFactory, recorded: dict[str, list[Any]]
) -> Iterator[Assembly]:
    folder = tmp_path_factory.mktemp("changed")
    with listed(folder, "changed_app", recorded) as where:
        yield synthesise(folder / "cdk.out", {}, {"stay": NOW}, listed=where)


def heard(assembly: Assembly, queue: str) -> set[str]:
    """The types of events that a queue subscribes to."""
    (found,) = [
        one
        for one in assembly.every("AWS::SNS::Subscription")
        if one.name.startswith(f"{queue}Events/")
    ]
    return set(found.properties["FilterPolicy"]["type"])


def called(assembly: Assembly, machine: str) -> set[str]:
    """The functions that a machine may call."""
    rights = assembly._allowed(f"<{machine}/Role.Arn>")
    return {on[1:-5] for action, on in rights if action == "lambda:InvokeFunction"}


def test_the_functions_and_queues_of_every_shape_stay(changed: Assembly) -> None:
    functions = {one.name for one in changed.every("AWS::Lambda::Function")}
    steps = {step.function for one in (BEFORE, CARD_ORDER) for step in one.all}
    assert {"FlightsHold", "InvoicesIssue", "CardsCapture"} <= steps
    assert functions >= steps | {f"{one}Queue" for one in steps}
    assert changed.findings() == []


def test_a_queue_hears_what_moves_its_step_in_any_shape(changed: Assembly) -> None:
    assert {"recourse.stay.started", "recourse.stay.flight.done"} <= heard(changed, "HotelsHold")
    assert "recourse.stay.started" in heard(changed, "FlightsHold")
    assert "recourse.card-order.started" in heard(changed, "InventoryReserve")
    assert "recourse.stay.capture.done" in heard(changed, "FlightsConfirm")
    assert "recourse.card-order.capture.done" in heard(changed, "InventoryConfirm")


def test_a_machine_may_call_the_functions_of_every_shape_of_its_saga(changed: Assembly) -> None:
    assert called(changed, "Stay") == {step.function for step in BEFORE.all} | {"Park"}
    assert called(changed, "CardOrder") == {step.function for step in CARD_ORDER.all} | {"Park"}


@pytest.mark.parametrize(("machine", "last"), [("Stay", NOW), ("CardOrder", CARD_ORDER)])
def test_the_newest_shape_is_compiled_and_its_version_names_it_and_outlives_the_next(
    changed: Assembly, machine: str, last: Saga
) -> None:
    """The machine of a retired saga stays too, and is still watched."""
    found = changed.one("AWS::StepFunctions::StateMachine", f"{machine}/Machine")
    assert json.loads(found.properties["DefinitionString"]) == compile_saga(last)
    version = changed.one("AWS::StepFunctions::StateMachineVersion", f"{machine}/Version")
    assert version.properties["Description"] == shape.digest(shape.record(last))
    assert version.body["UpdateReplacePolicy"] == "Retain"
    assert version.body["DeletionPolicy"] == "Delete"
    newest = f"<{machine}/Version.Arn> {shape.digest(shape.record(last))}"
    assert changed.parameters[f"machines/{last.name}"] == newest
    rule = changed.one("AWS::Events::Rule", "WentWrong").properties["EventPattern"]
    watched = changed.plain("Sagas", rule["detail"]["stateMachineArn"])
    assert f"<{machine}/Machine>" in watched


def test_the_pivot_of_every_shape_can_be_claimed_and_its_service_read(changed: Assembly) -> None:
    pivots = {name for name in changed.parameters if name.startswith("called/")}
    assert pivots == {"called/PaymentsCapture", "called/CardsCapture"}
    tables = {step.service for one in (BEFORE, CARD_ORDER) for step in one.all}
    assert {name for name in changed.parameters if name.startswith("tables/")} == {
        f"tables/{name}" for name in tables
    }
    for name in ("Api", "Sweeper"):
        rights = changed.rights(changed.one("AWS::Lambda::Function", name))
        assert "lambda:InvokeFunction" in rights["<CardsCapture.Arn>"]
        assert "states:DescribeStateMachine" in rights["<CardOrder/Machine>"]


def test_without_a_function_of_a_shape_nothing_is_synthesised(
    tmp_path: Path, recorded: dict[str, list[Any]]
) -> None:
    gone = json.loads(json.dumps(recorded).replace("services.flights:hold", "services.flights:own"))
    said = "saga 'stay', step 'flight': its action services.flights:own is gone"
    with listed(tmp_path, "gone_app", gone) as where, pytest.raises(ShapeError, match=said):
        synthesise(tmp_path / "cdk.out", {}, {"stay": NOW}, listed=where)


SERVED: dict[str, list[Any]] = {
    "changed": [BEFORE, NOW, CARD_ORDER],
    "dev": list(SAGAS.values()),
}
"""The shapes that an app serves, by the fixture of its assembly."""


def hearing(shapes: Iterable[Any]) -> set[str]:
    """The consumers that the sagas of these shapes depend on: of steps, and of confirmations."""
    steps = [step for one in shapes for step in one.all]
    return {step.function for step in steps} | {
        confirmer(step.service) for step in steps if step.confirms
    }


@pytest.mark.parametrize("which", SERVED)
def test_no_saga_begins_before_its_steps_would_hear_of_it(
    which: str, request: pytest.FixtureRequest
) -> None:
    assembly: Assembly = request.getfixturevalue(which)
    shapes = SERVED[which]
    names = hearing(shapes)
    must_hear_first(assembly, names)


@pytest.mark.parametrize("which", SERVED)
def test_no_run_begins_before_its_machine_may_call_the_functions_that_are_there(
    which: str, request: pytest.FixtureRequest
) -> None:
    assembly: Assembly = request.getfixturevalue(which)
    shapes = SERVED[which]
    machines = {one.name.title().replace("-", "") for one in shapes}
    for kind in ("StateMachine", "StateMachineVersion"):
        must_come_first(assembly, (f"AWS::StepFunctions::{kind}",), machines)
    functions = {step.function for one in shapes for step in one.all} | {"Park"}
    must_come_first(assembly, ("AWS::Lambda::Function",), functions)
    for one in assembly.every("AWS::StepFunctions::StateMachineVersion"):
        (machine,) = {name for name in machines if one.name.startswith(f"{name}/")}
        rights = ("Sagas", f"{machine}/Role/DefaultPolicy")
        assert {rights, *(found(assembly, name) for name in called(assembly, machine))} <= (
            assembly.before(one)
        )


def found(assembly: Assembly, function: str) -> tuple[str, str]:
    one = assembly.one("AWS::Lambda::Function", function)
    return one.stack, one.name
