"""Every saga, in both coordinations, under every fault.

What is checked are its own markers and rows, never its status alone.

A saga needs nothing here but `samples/<saga>.json`: a request that succeeds with the things of
`samples/seed.json`. One that reverses another needs nothing.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from recourse.declare.declaration import Coordination
from recourse.declare.reverse import reversed_by
from recourse.declare.saga import Saga
from recourse.declare.shape import Shape
from recourse.ledger.history import AT_REST
from recourse.orchestration import sweeper as sweeper_module
from recourse.orchestration.executions import run_name
from recourse.queues.deadletters import SUFFIX
from recourse.run.faults import FAULTS, UnknownFaultError, parse
from recourse.testing.ground import Mishap
from services.holdings import HOLDINGS, AccountBody, CountedBody
from statemachines import SAGAS
from tests.ground import Ground

pytestmark = pytest.mark.of_all
SAMPLES = Path(__file__).parents[2] / "samples"
PLENTY = 1000
PAST_EVERY_DEADLINE = 1e-9


def supply(ground: Ground) -> None:
    """Put a thousand times what the samples need."""
    for kind, things in json.loads((SAMPLES / "seed.json").read_text()).items():
        for thing, body in things.items():
            more = {name: number * PLENTY for name, number in figures(body).items()}
            ground.put(kind, thing, body | more)


def figures(body: Mapping[str, Any]) -> dict[str, int]:
    """The numbers of a thing: how many there are of it, how much there is."""
    return {name: value for name, value in body.items() if type(value) is int}


@pytest.fixture
def stocked(bare: Ground) -> Iterator[Ground]:
    """A ground as new, with a thousand times what the samples need."""
    supply(bare)
    yield bare
    bare.wipe()


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper_module, "GRACE_PERIOD", timedelta(0))


def sample(saga: Saga) -> dict[str, Any]:
    """A request that succeeds; of a saga that reverses another that one's."""
    for first in reversed_by(SAGAS).get(saga.name, ())[:1]:
        return sample(SAGAS[first.name])
    file = SAMPLES / f"{saga.name}.json"
    assert file.exists(), f"{file.name} is missing: a request of {saga.name} that succeeds"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def start(ground: Ground, saga: Saga, faults: dict[str, str], coordination: Coordination) -> str:
    if faults:
        parse(", ".join(f"{target}={fault}" for target, fault in faults.items()), saga)
    return ground.start(
        saga.name,
        sample(saga),
        key=f"every-{next(ground.keys)}",
        faults=faults,
        coordination=coordination,
    )


def outcome(ground: Ground, saga_id: str, step: str, service: str, side: str) -> str | None:
    """What a marker says happened."""
    marker = ground.row(service, f"marker#{saga_id}#{step}#{side}")
    return marker["outcome"] if marker else None


def must_add_up(ground: Ground) -> None:
    """What is true of all services at any time."""
    bookings = {service: ground.rows(service, "booking#") for service in ground.services}
    posted = postings(ground)
    ground.must_know_who_holds()
    for (kind, thing), body in ground.stock.items():
        shown = ground.held(kind, thing)
        assert min(figures(shown).values(), default=0) >= 0
        if issubclass(HOLDINGS[kind].body, CountedBody):
            assert shown["total"] == body["total"]
            assert shown["total"] == shown["available"] + shown["held"] + shown["confirmed"]
            booked: Counter[str] = Counter()
            for booking in bookings[HOLDINGS[kind].service]:
                booked[booking["status"]] += booking["things"].get(HOLDINGS[kind].key(thing), 0)
            confirmed = booked["CONFIRMED"] + booked["CANCELLING"]
            assert (booked["HELD"], confirmed) == (shown["held"], shown["confirmed"])
        if HOLDINGS[kind].body is AccountBody:
            assert shown["balance"] == shown["available"] + shown["held"]
            for part in ("available", "held"):
                assert shown[part] == posted[f"{thing}:{part}"], (thing, part)


def postings(ground: Ground) -> Counter[str]:
    """The sums of all postings, by account; each movement's sum to zero."""
    posted: Counter[str] = Counter()
    for service in ground.services:
        for movement in ground.rows(service, "movement#"):
            assert sum(movement["postings"].values()) == 0, movement
            posted.update(movement["postings"])
    return posted


BOOKED = {"VOIDED": "CANCELLED"}
"""What the payment provider calls a status of our row, where it is another word."""


def must_be_in_the_books(ground: Ground, saga: Saga, saga_id: str, status: str) -> None:
    """The payment provider has done what the saga's end says, and our row says the same."""
    external = [step for step in saga.all if "PAYMENT_PROVIDER" in step.action.settings]
    if any(outcome(ground, saga_id, s.name, s.service, "undo") == "skipped" for s in external):
        return
    booked = ground.books.payments.get(saga_id, {"status": None})["status"]
    for service in {step.service for step in external}:
        for row in ground.rows(service, "", f"#{saga_id}"):
            assert BOOKED.get(row["status"], row["status"]) == booked
    good = {"SUCCEEDED": ("CAPTURED",), "COMPENSATED": ("CANCELLED", "REFUNDED")}[status]
    assert booked in (None, *good)


def must_be_as_told(ground: Ground, saga: Saga, saga_id: str) -> str:
    """The markers, which are the effects, agree with the status, and all adds up; the status."""
    must_add_up(ground)
    return must_be_as_marked(ground, saga, saga_id)


def must_be_as_marked(ground: Ground, saga: Saga, saga_id: str) -> str:
    """The markers agree with the status; the status."""
    view = ground.view(saga_id)
    record = ground.ledger.get(saga_id)
    assert record is not None and not record.waiting, "an event still waits for its causes"
    shown = {step["name"]: step["status"] for step in view["steps"]}
    pivot = outcome(ground, saga_id, saga.pivot.name, saga.pivot.service, "action")
    for step in saga.all:
        acted = outcome(ground, saga_id, step.name, step.service, "action")
        undone = outcome(ground, saga_id, step.name, step.service, "undo")
        role = saga.role(step.name)
        if saga.left_out(step, record.request):
            assert (acted, undone, shown[step.name]) == (None, None, "SKIPPED")
            continue
        if view["status"] == "SUCCEEDED":
            assert acted in ("done", "skipped"), step.name
            assert undone is None, step.name
        elif view["status"] == "COMPENSATED":
            assert pivot != "done"
            assert role != "retriable" or acted is None, step.name
            if acted == "done":
                assert undone in ("done", "skipped"), step.name
                assert shown[step.name] == ("UNDONE" if undone == "done" else "SKIPPED")
        if undone == "done":
            marker = ground.row(step.service, f"marker#{saga_id}#{step.name}#action") or {}
            begun = step.action.external or "question" in marker
            what = "only what was done, had begun or was asked is undone"
            assert acted == "done" or (begun and acted == "cancelled"), what
    if view["status"] in ("SUCCEEDED", "COMPENSATED"):
        must_be_in_the_books(ground, saga, saga_id, view["status"])
    return str(view["status"])


def dead_lettered(ground: Ground) -> dict[str, int]:
    """How much rests in each dead-letter queue that holds anything."""
    found = {name: len(queue._messages) for name, queue in ground._backend.items()}
    return {name: count for name, count in found.items() if name.endswith(SUFFIX) and count}


def must_have_ended(ground: Ground, saga_id: str, status: str) -> None:
    """The last event is the one that tells of the end."""
    record = ground.ledger.get(saga_id)
    assert record is not None
    told = [event.kind for event in record.entered]
    assert told[-1] == status.lower() and told.count(told[-1]) == 1, told


def stuck(ground: Ground, saga: Shape[Any], saga_id: str) -> list[str]:
    """The steps that wait for an operator."""
    record = ground.ledger.get(saga_id)
    assert record is not None
    return [step.name for step in saga.all if ground.ledger.stuck_step(record, step.name)]


def bring_to_rest(ground: Ground, saga: Saga, saga_id: str) -> str:
    """Sweep and resolve until the saga is at rest: first by retry, then by skip."""
    for attempt in range(8):
        ground.settle()
        status = must_be_as_told(ground, saga, saga_id)
        if status in ("SUCCEEDED", "COMPENSATED"):
            return status
        record = ground.ledger.get(saga_id)
        assert record is not None
        if waiting := stuck(ground, saga, saga_id):
            ground.resolve(saga_id, waiting[0], skip=attempt > 1)
        else:
            if not record.is_choreographed:
                ground.hear_of_end(saga_id, record.run)
            ground.sweep(PAST_EVERY_DEADLINE)
    raise AssertionError(f"not at rest: {json.dumps(ground.view(saga_id), indent=1)}")


def targets(saga: Saga) -> list[tuple[str, str]]:
    """Every fault that can be asked for, by target."""
    names = [step.name for step in saga.all] + [f"{s.name}.undo" for s in saga.all if s.undo]
    found = []
    for target, fault in itertools.product(names, FAULTS):
        try:
            parse(f"{target}={fault}", saga)
        except UnknownFaultError:
            continue
        found.append((target, fault))
    return found


COORDINATIONS: tuple[Coordination, ...] = get_args(Coordination)
each_saga = pytest.mark.parametrize("saga", SAGAS.values(), ids=SAGAS)
each_coordination = pytest.mark.parametrize("coordination", COORDINATIONS)
each_fault = pytest.mark.parametrize(
    ("saga", "target", "fault"),
    [
        pytest.param(saga, target, fault + times, id=f"{saga.name}: {target}={fault}{times}")
        for saga in SAGAS.values()
        for target, fault in targets(saga)
        for times in (("", ":1") if target.endswith(".undo") else ("",))
    ],
)


@each_coordination
@each_saga
def test_the_sample_succeeds(stocked: Ground, saga: Saga, coordination: Coordination) -> None:
    saga_id = start(stocked, saga, {}, coordination)
    stocked.settle()
    assert must_be_as_told(stocked, saga, saga_id) == "SUCCEEDED"
    assert stocked.view(saga_id)["coordination"] == coordination


@each_saga
def test_a_run_enters_its_steps_its_groups_and_one_ending(stocked: Ground, saga: Saga) -> None:
    saga_id = start(stocked, saga, {}, "orchestration")
    groups = sum(len(group) > 1 for group in saga.groups)
    assert sum(stocked.entered(saga_id).values()) == len(saga.all) + groups + 1


def covered(saga: Saga, target: str, fault: str, coordination: Coordination) -> set[object]:
    """What a sample of the faults covers.

    Every step and every undo of every saga, every fault of every saga, both in each coordination;
    and every fault of each kind of step: before the pivot, the pivot, after it, an undo.
    """
    name, _, undo = target.partition(".")
    kind = "undo" if undo else saga.role(name)
    one = saga.name
    return {(one, target, coordination), (one, fault, coordination), (kind, fault, coordination)}


@pytest.mark.matrix(covers=covered)
@each_coordination
@each_fault
def test_each_fault_ends_as_guaranteed(
    stocked: Ground, saga: Saga, target: str, fault: str, coordination: Coordination
) -> None:
    asked = stocked.asked()
    name, _, undo = target.partition(".")
    faults = {target: fault} | ({saga.pivot.name: "reject"} if undo else {})
    saga_id = start(stocked, saga, faults, coordination)
    stocked.settle()
    status = must_be_as_told(stocked, saga, saga_id)
    assert status in AT_REST or stuck(stocked, saga, saga_id), "by itself"
    if ":" in fault:
        assert status in AT_REST and stocked.asked() == asked, "nobody is needed"
    status = bring_to_rest(stocked, saga, saga_id)
    must_have_ended(stocked, saga_id, status)
    if stocked.asked() != asked:
        stocked.clear()
        assert stocked.asked() == asked, "nobody is asked about what is over"
    role = saga.role(name)
    acted = fault == "duplicate"
    if fault in ("crash", "timeout"):
        # Nobody has to hear of an effect whose event goes its own way.
        acted = role == "pivot" or coordination == "choreography"
    forward = not undo and (role == "retriable" or acted)
    assert dead_lettered(stocked) == {}
    assert status == ("SUCCEEDED" if forward else "COMPENSATED")


def from_outside(ground: Ground, what: str, step: str, phase: str, after: bool) -> Mishap:
    """What is done to a saga around one call of a step's function, once.

    Args:
        ground: Where it runs.
        what: `abort` its run, `cancel` it, or `kill` the function.
        step: At a call for this step
        phase: in this phase.
        after: Whether the call is made before.
    """
    happened: list[str] = []

    def happen(task: dict[str, Any]) -> None:
        happened.append(what)
        record = ground.ledger.get(task["saga"]["id"])
        assert record is not None
        match what:
            case "abort" if not record.is_choreographed:
                machine = ground.runs.machines[record.saga]
                name = run_name(record.saga_id, task["saga"]["recover"])
                arn = machine.replace(":stateMachine:", ":execution:")
                ground.sfn.stop_execution(executionArn=f"{arn}:{name}")
            case "cancel":
                ground.runs.cancel(record)
            case "kill":
                raise TimeoutError

    def mishap(function: str, task: dict[str, Any], run: Any) -> Any:
        mine = not happened and (task.get("step"), task.get("phase")) == (step, phase)
        if mine and not after:
            happen(task)
        answer = run()
        if mine and after:
            happen(task)
        return answer

    return mishap
