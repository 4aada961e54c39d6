"""A deploy that changes a saga meets sagas in flight: each ends by the shape that it began with."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, get_args

import pytest

from recourse.declare import shape
from recourse.declare.declaration import Coordination, Earlier, Step, Together
from recourse.declare.request import request_model
from recourse.declare.saga import Saga
from recourse.errors import NoVersionError, Refusal
from recourse.functions import kit
from recourse.ledger.record import Record
from recourse.ledger.shapes import PREFIX, UnknownShapeError
from recourse.orchestration.sweeper import LONGEST_DELAY, MAX_RECOVERIES
from recourse.store.table import Table
from recourse.testing.ground import LEDGER
from services import cars, flights, hotels, invoices, payments
from statemachines.fields import Payer
from statemachines.travel_booking import CarAsk, FlightAsk, HotelAsk
from tests.ground import Ground, ground
from tests.integration.calling import PREFIX as SCOPES
from tests.integration.calling import Caller
from tests.integration.test_every_saga import dead_lettered, must_be_as_told, outcome
from tests.integration.trips import TRIP, must_hold, stock

keys = itertools.count()


@request_model
class StayRequest:
    """A flight and a room, and perhaps a car."""

    stay_id: str
    flight: FlightAsk
    hotel: HotelAsk
    payment: Payer
    car: CarAsk | None = None


FLIGHT = Step("flight", flights.hold, undo=flights.release, confirm=flights.book, takes=["flight"])
HOTEL = Step("hotel", hotels.hold, undo=hotels.release, confirm=hotels.book, takes=["hotel"])
CAR = Step("car", cars.hold, undo=cars.release, confirm=cars.book, takes=["car"])
CAPTURE = Step("capture", payments.capture, pivot=True)


def payment(after: list[str]) -> Step[Any]:
    return Step("payment", payments.authorise, undo=payments.void, takes=["payment"], after=after)


def stay(*steps: Step[Any] | Together) -> Saga:
    return Saga("stay", request=StayRequest, business_key="stay_id", steps=steps)


def invoice(after: list[str]) -> Step[Any]:
    return Step("invoice", invoices.issue, after=after)


BOTH = ["flight", "hotel"]
BEFORE = stay(FLIGHT, HOTEL, payment(BOTH), CAPTURE, invoice(BOTH))
ALL = [*BOTH, "car"]
AIR = Step("air", flights.hold, undo=flights.release, confirm=flights.book, takes=["flight"])
WITH_A_CAR = stay(FLIGHT, HOTEL, CAR, payment(ALL), CAPTURE, invoice(ALL))
AFTER = {
    "a step is added": WITH_A_CAR,
    "a step is removed": stay(HOTEL, payment(["hotel"]), CAPTURE, invoice(["hotel"])),
    "a step is renamed": stay(AIR, HOTEL, payment(["air", "hotel"]), CAPTURE, invoice(BOTH[1:])),
    "steps change their order": stay(HOTEL, FLIGHT, payment(BOTH), CAPTURE, invoice(BOTH)),
    "steps run together": stay(Together(HOTEL, FLIGHT), payment(BOTH), CAPTURE, invoice(BOTH)),
    "the last step goes": stay(FLIGHT, HOTEL, payment(BOTH), CAPTURE),
    "the saga is retired": None,
}
EARLIER = [Earlier(recorded=shape.read(shape.record(BEFORE)))]
NEWER = Earlier(recorded=shape.read(shape.record(WITH_A_CAR)))
BEFORE_DIGEST = shape.digest(shape.record(BEFORE))


def release(ground: Ground, after: Saga | None) -> None:
    ground.deploy({after.name: after} if after else {}, EARLIER)


@dataclass
class Deploy:
    """Deploys once a step's function is called for a saga for the first time."""

    ground: Ground
    step: str
    after: Saga | None
    is_done: bool = False

    def __call__(self, function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        if not self.is_done and task.get("step") == self.step:
            self.is_done = True
            release(self.ground, self.after)
        return run()


@pytest.fixture(scope="module")
def changing() -> Iterator[Ground]:
    with ground({"stay": WITH_A_CAR}) as made:
        stock(made)
        yield made


@pytest.fixture
def before(changing: Ground) -> Ground:
    changing.deploy({"stay": BEFORE})
    return changing


def begin(
    ground: Ground,
    coordination: Coordination,
    faults: dict[str, str],
    *,
    with_a_car: bool = False,
    **how: Any,
) -> str:
    body = {name: TRIP[name] for name in ("flight", "hotel", "payment")} | {"stay_id": "s-1"}
    body["car"] = TRIP["car"] if with_a_car else None
    key = f"{next(keys)}"
    return ground.start("stay", body, key=key, coordination=coordination, faults=faults, **how)


def must_show(ground: Ground, saga_id: str) -> None:
    """Every step of the declaration that it began with, and no other."""
    assert [step["name"] for step in ground.view(saga_id)["steps"]] == [
        step.name for step in BEFORE.all
    ]


@pytest.mark.matrix
@pytest.mark.parametrize("coordination", get_args(Coordination))
@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
@pytest.mark.parametrize("at", [step.name for step in BEFORE.all])
@pytest.mark.parametrize(
    ("faults", "status"),
    [({}, "SUCCEEDED"), ({"payment": "reject"}, "COMPENSATED")],
    ids=["done", "refused"],
)
def test_a_saga_in_flight_ends_by_the_shape_it_began_with(
    before: Ground,
    coordination: Coordination,
    after: Saga | None,
    at: str,
    faults: dict[str, str],
    status: str,
) -> None:
    before.mishap = deploy = Deploy(before, at, after)
    saga_id = begin(before, coordination, faults)
    before.settle()
    assert deploy.is_done or status != "SUCCEEDED"
    assert must_be_as_told(before, BEFORE, saga_id) == status
    must_show(before, saga_id)
    must_hold(before)
    held = [step for step in BEFORE.all if step.confirm and status == "SUCCEEDED"]
    for step in held:
        assert outcome(before, saga_id, step.name, step.service, "confirm") == "done"
    assert dead_lettered(before) == {}


@pytest.mark.matrix
@pytest.mark.parametrize("coordination", get_args(Coordination))
@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
@pytest.mark.parametrize(
    ("faults", "stuck", "status"),
    [
        ({"payment": "reject", "hotel.undo": "error"}, "hotel", "COMPENSATED"),
        ({"payment": "reject", "flight.undo": "error"}, "flight", "COMPENSATED"),
        ({"invoice": "error"}, "invoice", "SUCCEEDED"),
    ],
    ids=["an undo", "the last undo", "a step after the pivot"],
)
@pytest.mark.parametrize("skip", [False, True], ids=["retried", "skipped"])
def test_what_was_parked_before_a_deploy_is_resolved_after_it(
    before: Ground,
    coordination: Coordination,
    after: Saga | None,
    faults: dict[str, str],
    stuck: str,
    status: str,
    skip: bool,
) -> None:
    attempts = BEFORE.patience(BEFORE.by_name[stuck]).attempts
    once = {target: f"{fault}:{attempts}" for target, fault in faults.items() if fault == "error"}
    saga_id = begin(before, coordination, faults | once)
    before.settle()
    record = before.ledger.get(saga_id)
    assert record is not None
    assert before.ledger.is_parked(record)
    release(before, after)
    before.resolve(saga_id, stuck, skip=skip)
    before.settle()
    assert must_be_as_told(before, BEFORE, saga_id) == status
    must_show(before, saga_id)


@pytest.mark.parametrize("coordination", get_args(Coordination))
@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
def test_what_came_to_a_halt_is_swept_after_a_deploy(
    before: Ground, coordination: Coordination, after: Saga | None
) -> None:
    """Its start was recorded and nothing else: as with a run that Step Functions has lost."""
    saga_id = begin(before, coordination, {}, run=False)
    before.clear()
    release(before, after)
    before.clock.sleep(BEFORE.deadline + 3600)
    for _ in range(3):
        before.sweep()
        before.settle()
        before.clock.sleep(3600)
    # A run that never began is begun; a choreography past its deadline is cancelled.
    ended = {"orchestration": "SUCCEEDED", "choreography": "COMPENSATED"}
    assert must_be_as_told(before, BEFORE, saga_id) == ended[coordination]
    must_show(before, saga_id)


@pytest.mark.parametrize("coordination", get_args(Coordination))
@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
def test_a_saga_in_flight_is_cancelled_after_a_deploy(
    before: Ground, coordination: Coordination, after: Saga | None
) -> None:
    saga_id = begin(before, coordination, {}, run=False)
    release(before, after)
    record = before.ledger.get(saga_id)
    assert record is not None
    assert before.runs.cancel(record)
    before.runs.start(record)
    before.settle()
    assert must_be_as_told(before, BEFORE, saga_id) == "COMPENSATED"


def test_a_new_saga_has_the_new_shape_and_one_at_rest_keeps_its_own(before: Ground) -> None:
    old = begin(before, "orchestration", {})
    before.settle()
    shown = before.view(old)
    release(before, WITH_A_CAR)
    new = begin(before, "orchestration", {})
    before.settle()
    assert before.statuses(new) == dict.fromkeys(BEFORE.by_name, "DONE") | {"car": "SKIPPED"}
    assert before.view(old) == shown


def test_a_saga_of_an_old_shape_shows_through_the_api_what_it_began_with(
    before: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit, "ledger", lambda: before.ledger)
    monkeypatch.setenv("SCOPE_PREFIX", SCOPES)
    asha = Caller("asha")
    saga_id = begin(before, "orchestration", {})
    path = f"/sagas/{saga_id}/declaration"
    shown = asha("GET", path).json
    assert shown["shape"] == BEFORE_DIGEST
    for after in (AFTER["steps run together"], AFTER["the saga is retired"]):
        release(before, after)
        assert asha("GET", path).json == shown
    before.settle()
    assert asha("GET", path).json == shown
    assert [[step["name"] for step in stage] for stage in shown["stages"]] == [
        ["flight"],
        ["hotel"],
        ["payment"],
        ["capture"],
        ["invoice"],
    ]
    before.dynamodb.delete_item(TableName=LEDGER, Key={"pk": {"S": f"{PREFIX}{BEFORE_DIGEST}"}})
    before.deploy({})
    unknown = asha("GET", path)
    assert unknown.status == 409, unknown
    assert unknown.json["type"] == "urn:recourse:problem:shape-unknown"


def test_a_roll_back_knows_the_sagas_of_the_release_that_it_takes_back(before: Ground) -> None:
    """The release before has not declared that shape: the first start has recorded it."""
    before.deploy({"stay": WITH_A_CAR})
    before.mishap = deploy = Deploy(before, "hotel", BEFORE)
    saga_id = begin(before, "orchestration", {})
    before.settle()
    assert deploy.is_done
    assert must_be_as_told(before, WITH_A_CAR, saga_id) == "SUCCEEDED"


def test_a_shape_that_nobody_knows_is_said_and_stops_no_other_saga(before: Ground) -> None:
    saga_id, other = (begin(before, "orchestration", {}) for _ in range(2))
    before.settle()
    known = shape.digest(shape.record(BEFORE))
    key = {"pk": {"S": f"{PREFIX}{known}"}}
    before.dynamodb.delete_item(TableName=LEDGER, Key=key)
    before.deploy({})
    for one in (saga_id, other):
        record = before.ledger.get(one)
        assert record is not None
        assert before.ledger.view(record)["steps"] == []
        assert before.ledger.view(record)["status"] == "SUCCEEDED"
        with pytest.raises(UnknownShapeError, match=known):
            before.ledger.shape(record)


def test_a_shape_that_was_changed_by_hand_is_refused(before: Ground) -> None:
    saga_id = begin(before, "orchestration", {})
    before.settle()
    changed = shape.record(BEFORE) | {"deadline": 1}
    known = shape.digest(shape.record(BEFORE))
    Table(before.dynamodb, LEDGER).put({"pk": PREFIX + known, "shape": json.dumps(changed)})
    before.deploy({})
    record = before.ledger.get(saga_id)
    assert record is not None
    with pytest.raises(UnknownShapeError, match="changed by hand"):
        before.ledger.shape(record)
    Table(before.dynamodb, LEDGER).put(
        {"pk": PREFIX + known, "shape": json.dumps(shape.record(BEFORE))}
    )


def test_a_try_by_an_old_shape_lasts_as_long_as_the_function_that_a_release_gave_more_time(
    before: Ground,
) -> None:
    longer = stay(replace(FLIGHT, timeout=90), HOTEL, payment(BOTH), CAPTURE, invoice(BOTH))
    saga_id = begin(before, "choreography", {}, run=False)
    release(before, longer)
    times: dict[str, tuple[float, float]] = {}

    def look(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        times[task["step"]] = task["timeout"], task["lasts"]
        return run()

    before.mishap = look
    before.settle()
    assert must_be_as_told(before, BEFORE, saga_id) == "SUCCEEDED"
    assert (times["flight"], times["hotel"]) == ((30, 90), (30, 30))


def test_a_shape_of_which_a_later_release_has_recorded_more_is_read(before: Ground) -> None:
    """As after a roll-back, to a release that does not know what that is."""
    recorded = shape.record(BEFORE) | {"mood": "blue"}
    known = shape.digest(recorded)
    row = {"pk": PREFIX + known, "shape": json.dumps(recorded)}
    Table(before.dynamodb, LEDGER).put(row)
    found = before.ledger.shapes.of("stay", known)
    assert [step.name for step in found.all] == [step.name for step in BEFORE.all]


def test_a_shape_keeps_its_digest_whatever_its_functions_have_become() -> None:
    """An action that by now may refuse otherwise, of a request that was another, is no other."""
    recorded = shape.record(BEFORE)
    recorded["groups"][0][0] |= {"refusals": ["GoneError"]}
    recorded["request"] = {"else": "str"}
    earlier = Earlier(recorded=shape.read(recorded))
    assert shape.digest(shape.record(earlier)) == shape.digest(recorded)


@pytest.mark.parametrize("coordination", get_args(Coordination))
@pytest.mark.parametrize("at", list(itertools.pairwise(step.name for step in BEFORE.all)))
def test_two_deploys_meet_one_saga_and_each_saga_ends_by_its_own(
    before: Ground, coordination: Coordination, at: tuple[str, str]
) -> None:
    """The second one within the minute, while the saga is at its next step."""
    second = AFTER["steps run together"]
    assert second is not None
    between: list[str] = []

    def deploy(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        if task.get("step") == at[0] and not between:
            release(before, WITH_A_CAR)
            between.append(begin(before, coordination, {}, run=False))
        elif task.get("step") == at[1] and len(between) == 1 and task["saga"]["id"] == saga_id:
            before.deploy({"stay": second}, [*EARLIER, NEWER])
            between.append(begin(before, coordination, {}, run=False))
        return run()

    saga_id = begin(before, coordination, {}, run=False)
    before.mishap = deploy
    run_of(before, saga_id)
    before.settle()
    for one in between:
        run_of(before, one)
    before.settle()
    assert len(between) == 2
    for one, shaped in zip([saga_id, *between], [BEFORE, WITH_A_CAR, second], strict=True):
        assert must_be_as_told(before, shaped, one) == "SUCCEEDED"
        shown = [step["name"] for step in before.view(one)["steps"]]
        assert shown == [step.name for step in shaped.all]
    must_hold(before)


def run_of(ground: Ground, saga_id: str) -> None:
    record = ground.ledger.get(saga_id)
    assert record is not None
    ground.runs.start(record)


@pytest.mark.parametrize("coordination", get_args(Coordination))
@pytest.mark.parametrize("at", [step.name for step in WITH_A_CAR.all])
def test_a_deploy_that_is_rolled_back_parks_what_began_by_it_until_it_is_deployed_again(
    before: Ground, coordination: Coordination, at: str
) -> None:
    """What it brought is deleted: a function with its queue, and the machine's version.

    Whatever does not need these ends as it would have.
    """
    new = WITH_A_CAR.by_name["car"].function
    before.deploy({"stay": WITH_A_CAR}, EARLIER)
    kept = before.functions[new]
    rolled_back: list[str] = []

    def fails(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        if task.get("step") == at and not rolled_back:
            rolled_back.append(at)
            roll_back(before, new)
        return run()

    before.mishap = fails
    saga_id = begin(before, coordination, {}, with_a_car=True)
    before.settle()
    assert rolled_back
    for _ in range(MAX_RECOVERIES + 2):
        before.clock.sleep(WITH_A_CAR.deadline + LONGEST_DELAY.total_seconds())
        with suppress(ExceptionGroup):
            before.sweep()
        before.settle()
    status = before.view(saga_id)["status"]
    assert status in ("SUCCEEDED", "COMPENSATED", "COMPENSATION_FAILED")
    before.functions[new] = kept
    before.deploy({"stay": WITH_A_CAR}, EARLIER)
    if status == "COMPENSATION_FAILED":
        record = before.ledger.get(saga_id)
        assert record is not None
        assert before.ledger.is_parked(record)
        stuck = [one for one in WITH_A_CAR.by_name if before.ledger.stuck_step(record, one)]
        before.resolve(saga_id, stuck[0], skip=False)
        before.settle()
    assert must_be_as_told(before, WITH_A_CAR, saga_id) in ("SUCCEEDED", "COMPENSATED")
    must_hold(before)


def roll_back(ground: Ground, new: str) -> None:
    """Back to the release before, as CloudFormation does it: with nothing that the other made."""
    ground.deploy({"stay": BEFORE})
    del ground.functions[new]
    ground.lose(new)
    ground.listeners.pop(new, None)
    ground._hear(new, {"type": ["none"]})
    version = ground.runs.version

    def known(wanted: Any) -> str:
        if wanted.name == "stay" and shape.digest(shape.record(wanted)) != BEFORE_DIGEST:
            raise NoVersionError("it was deleted")
        return version(wanted)

    ground.runs = replace(ground.runs, version=known)
    ground.sweeper.runs = ground.runs


@pytest.mark.parametrize("coordination", get_args(Coordination))
@pytest.mark.parametrize("side", ["action", "undo"])
def test_a_refusal_of_another_name_is_recorded_and_parked_by_that_name(
    before: Ground, coordination: Coordination, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest code refuses by a name that the saga's shape has not, and an undo is stuck."""

    class SoldOutError(Refusal):
        """Another release calls it so."""

    def refusing(part: Any, **more: Any) -> Any:
        @wraps(part.decide)
        def refuses(*_: Any) -> Any:
            raise SoldOutError("no room")

        return replace(part, decide=refuses, **more)

    if side == "action":
        refused = [*hotels.hold.refuses, SoldOutError]
        monkeypatch.setattr(hotels, "hold", refusing(hotels.hold, refuses=refused))
    else:
        monkeypatch.setattr(hotels, "release", refusing(hotels.release))
    hotel = replace(HOTEL, action=hotels.hold, undo=hotels.release)
    newer = stay(FLIGHT, hotel, payment(BOTH), CAPTURE, invoice(BOTH))
    stuck = {"payment": "reject"} if side == "undo" else {"hotel.undo": "error"}
    saga_id = begin(before, coordination, stuck, run=False)
    before.deploy({"stay": newer}, EARLIER)
    run_of(before, saga_id)
    before.settle()
    (view,) = [one for one in before.view(saga_id)["steps"] if one["name"] == "hotel"]
    given_up = side == "action" and coordination == "choreography"  # it is not undone there
    assert view["status"] == ("FAILED" if given_up else "UNDO_FAILED")
    (said,) = [
        event
        for event in record_of(before, saga_id).entered
        if event.step == "hotel" and event.error.get("type") == "SoldOutError"
    ]
    assert said.kind == ("failed" if side == "action" else "undo_failed")
    # The step's own marker has recorded why it failed, so parking does not say so once more.
    assert before.row(LEDGER, f"outbox#{saga_id}.hotel.failed") is None


def record_of(ground: Ground, saga_id: str) -> Record:
    record = ground.ledger.get(saga_id)
    assert record is not None and record.shape == BEFORE_DIGEST
    return record
