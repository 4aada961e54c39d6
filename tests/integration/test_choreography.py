"""A choreography, whatever is delivered when: any order, twice, late, never, to a dying process."""

from __future__ import annotations

import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from moto.sqs.models import sqs_backends

from recourse.choreography.listener import GIVE_UP_RETRIES, MIN_RECEIVES, Listener
from recourse.declare.reverse import reversed_by
from recourse.errors import StepCancelledError, TransientError
from recourse.queues.deadletters import REASON
from recourse.testing import calls
from recourse.testing.ground import LEDGER
from recourse.testing.handlers import ACCOUNT, Killed
from services.holdings import HOLDINGS, AccountBody, CountedBody
from statemachines import SAGAS
from tests.events import event
from tests.ground import Ground
from tests.integration import test_every_saga as every
from tests.integration.test_every_saga import bring_to_rest, must_be_as_told, sample
from tests.patience import PATIENCE, until
from tests.profile import examples

TRAVEL = SAGAS["travel-booking"]
stocked = every.stocked
no_grace = every.no_grace
keys = itertools.count()


@pytest.fixture(autouse=True)
def no_mishap(stocked: Ground) -> Iterator[None]:
    before = stocked.mishap
    yield
    stocked.mishap = before


def begin(ground: Ground, saga: str = "travel-booking", **faults: str) -> str:
    asked = {name.replace("__", "."): fault for name, fault in faults.items()}
    return ground.start(
        saga,
        sample(SAGAS[saga]),
        key=f"choreography-{next(keys)}",
        faults=asked,
        coordination="choreography",
    )


def reversed_first(ground: Ground, saga: str) -> str | None:
    """What a saga reverses, once that has succeeded; None where it reverses nothing."""
    if first := reversed_by(SAGAS).get(saga):
        saga_id = begin(ground, first[0].name)
        ground.settle()
        return saga_id
    return None


def begin_after(ground: Ground, first: str | None, saga: str, faults: Mapping[str, str]) -> str:
    """Begin a saga, after what it reverses."""
    if first:
        return ground.reverse(first, faults=faults, coordination="choreography")
    return ground.start(
        saga,
        sample(SAGAS[saga]),
        key=f"delivered-{next(keys)}",
        faults=faults,
        coordination="choreography",
    )


def counts(ground: Ground) -> dict[tuple[str, str], Counter[str]]:
    """What the services hold, and that it adds up."""
    found = {}
    for kind, thing in ground.stock:
        shown = ground.held(kind, thing)
        held = every.figures(shown)
        assert min(held.values(), default=0) >= 0, shown
        if issubclass(HOLDINGS[kind].body, CountedBody):
            assert shown["total"] == sum(shown[n] for n in ("confirmed", "available", "held"))
        if HOLDINGS[kind].body is AccountBody:
            assert shown["balance"] == shown["available"] + shown["held"], shown
        found[kind, thing] = Counter(held)
    return found


def change(
    before: Mapping[Any, Counter[str]], now: Mapping[Any, Counter[str]]
) -> dict[Any, dict[str, int]]:
    """What is other than it was."""
    changes = {}
    for key, was in before.items():
        moved = {name: now[key][name] - was[name] for name in was if now[key][name] != was[name]}
        if moved:
            changes[key] = moved
    return changes


def of_one(ground: Ground, saga: str) -> dict[Any, dict[str, int]]:
    """What one saga that succeeds changes in the services."""
    first = reversed_first(ground, saga)
    before = counts(ground)
    saga_id = begin_after(ground, first, saga, {})
    ground.settle()
    assert must_be_as_told(ground, SAGAS[saga], saga_id) == "SUCCEEDED"
    return change(before, counts(ground))


def passes(ground: Ground) -> dict[str, str]:
    """Every deadline passes, and the sweeper goes round."""
    return ground.sweep(1e-9)


# Any delivery.
#
# Measured, by the run in which each of four mistakes is found first (150 examples are some 200
# runs, 80 s of a core): a tombstone put without its condition 25, the ledger's version not checked
# 14, an account's condition without what is available 106 (by threads, so not each time), `give_up`
# of a step that has acted undoing it 174. As many of 20 steps, with queues that deliver in order
# and none of them slow, found none of the four. All four are found by tests that aim at them, in a
# second (`tests/mutants`), so 50 examples are enough here for what nobody has thought of.


@st.composite
def asked(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    """A saga, and faults of it: none, or of one or two of its actions and undos."""
    saga = SAGAS[draw(st.sampled_from(sorted(SAGAS)))]
    found = {}
    for target, fault in draw(st.lists(st.sampled_from(every.targets(saga)), max_size=2)):
        for_ever = [] if target.endswith(".undo") else [""] * 4  # it would have to be skipped
        found[target] = fault + draw(st.sampled_from([*for_ever, ":1", ":5"]))
    return saga.name, found


PAYER = "acct-asha"
ENOUGH_FOR_ONE: dict[str, Any] = {"currency": "INR", "balance": 6_000_000}
"""What the payer has: a trip and a half."""


class Deliveries(RuleBasedStateMachine):
    """Sagas under way at the same time, and a scheduler that may do anything with their messages.

    In the end all that is left is delivered, every deadline passes, an operator resolves what is
    stuck; and then the services hold what the sagas that succeeded have booked, and nothing else.
    """

    ground: Ground
    one: Mapping[str, dict[Any, dict[str, int]]]

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[str, str]] = []
        self.before: dict[tuple[str, str], Counter[str]] = {}
        self.rests = every.dead_lettered(self.ground)
        self.swept = False

    @initialize(one=asked(), other=st.none() | asked())
    def first(self, one: Any, other: Any) -> None:
        asked = [each for each in (one, other) if each]
        plenty = ENOUGH_FOR_ONE["balance"] * 10
        self.ground.put("accounts", PAYER, {**ENOUGH_FOR_ONE, "balance": plenty})
        firsts = [reversed_first(self.ground, saga) for saga, _ in asked]
        self.ground.put("accounts", PAYER, ENOUGH_FOR_ONE)
        self.before = counts(self.ground)
        for first, (saga, faults) in zip(firsts, asked, strict=True):
            self.begun.append((saga, begin_after(self.ground, first, saga, faults)))

    @initialize(which=st.integers(0, 9), first=st.integers(1, 4), seed=st.integers(0, 9))
    def slow(self, which: int, first: int, seed: int) -> None:
        """One queue is slow: all else goes on, until what waits for it is all that is left."""
        names = [LEDGER, *(step.function for saga, _ in self.begun for step in SAGAS[saga].all)]
        name = names[which % len(names)]
        self.ground.settle(without=name)
        self._meet(name, first, seed)

    @rule(most=st.integers(1, 20), seed=st.integers(0, 9), twice=st.booleans())
    def relay(self, most: int, seed: int, twice: bool) -> None:
        self.ground.relay(most, shuffle=random.Random(seed), twice=twice)

    @rule(
        which=st.integers(0, 20),
        most=st.integers(1, 10),
        seed=st.integers(0, 9),
        twice=st.booleans(),
        dies=st.booleans(),
    )
    def deliver(self, which: int, most: int, seed: int, twice: bool, dies: bool) -> None:
        if name := self._queue(which):
            chance = random.Random(seed)
            self.ground.deliver(name, most, shuffle=chance, twice=twice, lost=dies)

    @rule(which=st.integers(0, 20), calls=st.integers(0, 3), after=st.booleans())
    def kill(self, which: int, calls: int, after: bool) -> None:
        """The process of a function dies in the middle of a batch."""
        lives = itertools.count()

        def dying(function: str, task: dict[str, Any], run: Any) -> Any:
            if next(lives) < calls:
                return run()
            if after:
                run()
            raise Killed

        if name := self._queue(which):
            before, self.ground.mishap = self.ground.mishap, dying
            self.ground.deliver(name)
            self.ground.mishap = before

    @precondition(lambda self: self._queue(0, least=2))
    @rule(which=st.integers(0, 20), first=st.integers(1, 4), seed=st.integers(0, 9))
    def meet(self, which: int, first: int, seed: int) -> None:
        if name := self._queue(which, least=2):
            self._meet(name, first, seed)

    def _meet(self, name: str, first: int, seed: int) -> None:
        """What waits in the same queue comes between what one has read and what it writes."""
        chance = random.Random(seed)
        others = partial(self.ground.deliver, name, 10, shuffle=chance)
        with calls.before(others, number=chance.choice([0, 0, 1, 2]), sure=False):
            self.ground.deliver(name, first, shuffle=chance)

    @rule(which=st.integers(0, 20))
    def lose(self, which: int) -> None:
        """A message never comes; the ledger's rest in its dead-letter queue instead."""
        name = self._queue(which)
        if name and name in self.ground.listeners:
            self.ground.lose(name)

    @rule()
    def time(self) -> None:
        """What was put off, or was being taken when its process died, comes again."""
        self.ground.pass_time()

    @rule(which=st.integers(0, 2))
    def cancel(self, which: int) -> None:
        _, saga_id = self.begun[which % len(self.begun)]
        record = self.ground.ledger.get(saga_id)
        assert record is not None
        if record.status == "RUNNING":
            self.ground.runs.cancel(record)

    @precondition(lambda self: not self.swept)
    @rule()
    def sweep(self) -> None:
        self.swept = True
        passes(self.ground)

    def teardown(self) -> None:
        self.ground.settle()
        for _, saga_id in self.begun:
            # The sweeper would heal what is missing, and nobody would see that it was.
            self._must_have_heard_all(saga_id)
        succeeded = Counter(
            saga
            for saga, saga_id in self.begun
            if bring_to_rest(self.ground, SAGAS[saga], saga_id) == "SUCCEEDED"
        )
        for saga, saga_id in self.begun:
            must_be_as_told(self.ground, SAGAS[saga], saga_id)
            self._must_have_heard_all(saga_id)
        assert every.dead_lettered(self.ground) == self.rests
        expected: dict[Any, Counter[str]] = {}
        for saga, times in succeeded.items():
            for key, changes in self.one[saga].items():
                for name, by in changes.items():
                    expected.setdefault(key, Counter())[name] += by * times
        # What one gives back another may have taken.
        moved = {key: {name: by for name, by in one.items() if by} for key, one in expected.items()}
        assert change(self.before, counts(self.ground)) == {
            key: one for key, one in moved.items() if one
        }

    def _must_have_heard_all(self, saga_id: str) -> None:
        """The ledger has every event: it is told twice and late, and never not at all."""
        told = [
            json.loads(row["event"])
            for table in (*self.ground.services, "ledger")
            for row in self.ground.rows(table, f"outbox#{saga_id}.")
        ]
        record = self.ground.ledger.get(saga_id)
        assert told and record is not None
        heard = {one.id for one in [*record.entered, *record.waiting]}
        # An undo without an effect may come after the end, as may a claim on the pivot that came
        # to nothing; and what was stuck may be so no more.
        effects = [one for one in told if not {"early", "outcome"} & set(one["data"])]
        assert [one["id"] for one in effects if one["id"] not in heard] == []

    def _queue(self, which: int, least: int = 1) -> str | None:
        """One of the queues that have so much to deliver."""
        waiting = [name for name in self.ground.queues if self.ground.waiting(name) >= least]
        return waiting[which % len(waiting)] if waiting else None


@pytest.mark.of_all
def test_any_delivery_comes_to_a_good_end(stocked: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(every, "must_add_up", counts)  # not all rows of all sagas, each time
    Deliveries.ground = stocked
    Deliveries.one = {saga: of_one(stocked, saga) for saga in SAGAS}
    try:
        run_state_machine_as_test(
            Deliveries,
            settings=examples(50, steps=8),  # each half a second of a core
        )
    finally:
        every.supply(stocked)


# Mishaps one by one.


def deliver_until(ground: Ground, name: str) -> None:
    """Relay and deliver everything but the queue `name`, until only that one has something."""
    ground.settle(without=name)
    assert ground.waiting(name), f"nothing waits in {name}"


def test_every_message_twice_and_in_any_order_is_one_effect(stocked: Ground) -> None:
    expected = of_one(stocked, "travel-booking")
    before = counts(stocked)
    saga_id = begin(stocked)
    stocked.settle(shuffle=random.Random(7), twice=True)
    assert must_be_as_told(stocked, TRAVEL, saga_id) == "SUCCEEDED"
    assert change(before, counts(stocked)) == expected


def test_a_relay_that_is_down_for_a_while_delays_and_loses_nothing(stocked: Ground) -> None:
    saga_ids = [begin(stocked) for _ in range(3)]
    stocked.relay()
    for name in stocked.queues:
        stocked.deliver(name)
    down = stocked.stream.fetch()
    assert down, "the steps have acted and told of it"
    stocked.settle()
    assert {stocked.view(saga_id)["status"] for saga_id in saga_ids} == {"RUNNING"}
    stocked.stream.give_back(down)
    stocked.settle()
    for saga_id in saga_ids:
        assert must_be_as_told(stocked, TRAVEL, saga_id) == "SUCCEEDED"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_consumer_killed_in_mid_batch_has_done_nothing_twice(
    stocked: Ground, after: bool
) -> None:
    before = counts(stocked)
    expected = Counter({"confirmed": 3 * sample(TRAVEL)["flight"]["seats"]})
    saga_ids = [begin(stocked) for _ in range(3)]
    deliver_until(stocked, "FlightsHold")
    calls = itertools.count()

    def dying(function: str, task: dict[str, Any], run: Any) -> Any:
        if next(calls) == 0:
            return run()
        if after:
            run()
        raise Killed

    stocked.mishap = dying
    stocked.deliver("FlightsHold")
    stocked.mishap = lambda function, task, run: run()
    assert not stocked.waiting("FlightsHold"), "the batch is out of sight for its visibility"
    stocked.settle()
    for saga_id in saga_ids:
        assert must_be_as_told(stocked, TRAVEL, saga_id) == "SUCCEEDED"
    flight = ("flights", sample(TRAVEL)["flight"]["id"])
    assert counts(stocked)[flight]["confirmed"] - before[flight]["confirmed"] == sum(
        expected.values()
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{not json", "UnreadableError: this is not an event of a saga: Expecting property name"),
        ("[]", "TypeError"),
        ('{"type": "recourse.nothing.started", "data": {}}', "KeyError"),
        (event("s", "travel-booking", "started").to_json(), "carried"),
    ],
    ids=["no JSON", "no object", "no event", "nothing carried"],
)
def test_a_malformed_message_is_dead_lettered_with_its_reason_and_the_rest_is_done(
    stocked: Ground, body: str, said: str
) -> None:
    saga_id = begin(stocked)
    deliver_until(stocked, "FlightsHold")
    stocked.sqs.send_message(QueueUrl=stocked.queues["FlightsHold"], MessageBody=body)
    stocked.settle()
    assert must_be_as_told(stocked, TRAVEL, saga_id) == "SUCCEEDED"
    (message,) = stocked.dead_lettered("FlightsHold")
    assert message["Body"] == body
    reason = message["MessageAttributes"][REASON]["StringValue"]
    assert reason.startswith("UnreadableError: ") and said in reason


def test_a_message_that_cannot_even_be_given_up_is_dead_lettered_with_its_reason(
    stocked: Ground,
) -> None:
    saga_id = begin(stocked)
    asked = Counter[str]()

    def broken(function: str, task: dict[str, Any], run: Any) -> Any:
        if function == "HotelsHold":
            asked[task["phase"]] += 1
            raise LookupError("there is no such table")
        return run()

    stocked.mishap = broken
    stocked.settle()
    (message,) = stocked.dead_lettered("HotelsHold")
    reason = message["MessageAttributes"][REASON]["StringValue"]
    assert reason == "LookupError: there is no such table"
    tries = TRAVEL.retry(TRAVEL.by_name["hotel"]).attempts
    assert asked == {"action": tries, "give_up": tries + GIVE_UP_RETRIES}
    # Nobody has told of it, so the deadline finds it.
    assert stocked.view(saga_id)["status"] == "RUNNING"
    stocked.mishap = lambda function, task, run: run()
    assert "cancelled" in passes(stocked)[saga_id]
    stocked.settle()
    assert must_be_as_told(stocked, TRAVEL, saga_id) == "COMPENSATED"


@pytest.mark.parametrize("name", [*calls.THROTTLES, *calls.BROKEN])
def test_a_message_that_cannot_be_dead_lettered_now_comes_again_and_is_dead_lettered_then(
    stocked: Ground, name: str
) -> None:
    """Nobody else has it: what is deleted without having been dead-lettered is lost."""
    body = f"no event: {name}"
    stocked.sqs.send_message(QueueUrl=stocked.queues["HotelsHold"], MessageBody=body)
    refused = {**calls.THROTTLES, **calls.BROKEN}[name]
    with calls.answered(refused, "SendMessage") as hit:
        stocked.deliver("HotelsHold")
    assert len(hit) == 1
    assert body not in bodies(stocked, "HotelsHold-deadletters")
    stocked.settle()
    assert body in bodies(stocked, "HotelsHold-deadletters")


@pytest.mark.parametrize("fails", [1, 3, 4])
def test_what_nobody_foresaw_is_tried_until_its_last_delivery_and_dead_lettered_with_its_reason(
    stocked: Ground, fails: int
) -> None:
    """The inbox does not work, so that not even the tries can be counted."""
    few(stocked, "PaymentsAuthorise", 4)
    saga_id = begin(stocked)
    deliver_until(stocked, "PaymentsAuthorise")
    waiting = stocked.waiting("PaymentsAuthorise")
    with calls.answered(calls.error("NoSuchTable"), "UpdateItem", times=fails * waiting) as hit:
        while len(hit) < fails * waiting and stocked.waiting("PaymentsAuthorise"):
            stocked.deliver("PaymentsAuthorise")
            stocked.clock.sleep(61)
    stocked.settle()
    few(stocked, "PaymentsAuthorise", MIN_RECEIVES)
    lost = [body for body in bodies(stocked, "PaymentsAuthorise-deadletters") if saga_id in body]
    if fails < 4:
        assert lost == []
        assert must_be_as_told(stocked, TRAVEL, saga_id) == "SUCCEEDED"
        return
    assert len(lost) == waiting
    reasons = [
        message["MessageAttributes"][REASON]["StringValue"]
        for message in stocked.dead_lettered("PaymentsAuthorise")
        if saga_id in message["Body"]
    ]
    assert len(reasons) == waiting and all("NoSuchTable" in reason for reason in reasons)
    assert stocked.view(saga_id)["status"] == "RUNNING"


def few(ground: Ground, name: str, receives: int) -> None:
    """Let a queue deliver its messages so often."""
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}-deadletters"
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": receives})
    ground.sqs.set_queue_attributes(
        QueueUrl=ground.queues[name], Attributes={"RedrivePolicy": policy}
    )
    # A test before may have had it read the policy, which a process reads once.
    ground._sources.pop(f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}", None)


def bodies(ground: Ground, name: str) -> list[str]:
    """What the messages of a queue say, whoever looks at them just now."""
    return [message.body for message in ground._backend[name]._messages]


def test_an_action_that_comes_after_its_undo_is_done_with_at_once(
    stocked: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no failure: it is not counted, not tried again, and nobody is told."""
    saga_id = begin(stocked, hotel="reject")
    deliver_until(stocked, "CarsHold")
    queue = stocked._backend["CarsHold"]
    (late,) = (one for one in queue._messages if f'"{saga_id}.started"' in one.body)
    queue._messages.remove(late)
    stocked.settle()
    assert stocked.statuses(saga_id)["car"] == "SKIPPED"
    listener = stocked.listeners["CarsHold"]
    outcomes: list[str] = []

    def handle_batch(records: Any) -> Any:
        results = Listener.handle_batch(listener, records)
        outcomes.extend(one.outcome for one in results)
        return results

    monkeypatch.setattr(listener, "handle_batch", handle_batch)
    queue._messages.append(late)
    assert stocked.deliver("CarsHold") == 1
    assert outcomes == ["done"]
    assert not stocked.waiting("CarsHold") and not stocked.stream.fetch()
    assert not any("tries" in row for row in stocked.rows("cars", f"inbox#{saga_id}"))
    assert must_be_as_told(stocked, TRAVEL, saga_id) == "COMPENSATED"


def test_a_try_that_hangs_is_put_back_in_time_and_the_others_of_its_batch_are_done(
    stocked: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stocked.listeners["HotelsHold"], "_budget", 3)
    hanging, fine = begin(stocked), begin(stocked)
    deliver_until(stocked, "HotelsHold")
    let_go = threading.Event()

    def hangs(function: str, task: dict[str, Any], run: Any) -> Any:
        if task["saga"]["id"] == hanging and function == "HotelsHold" and task["attempt"] == 0:
            let_go.wait(PATIENCE)
        return run()

    stocked.mishap = hangs
    assert stocked.deliver("HotelsHold") == 2
    left = stocked.sqs.get_queue_attributes(
        QueueUrl=stocked.queues["HotelsHold"], AttributeNames=["All"]
    )["Attributes"]
    assert (
        int(left["ApproximateNumberOfMessages"])
        + int(left["ApproximateNumberOfMessagesNotVisible"])
        == 1
    )
    stocked.settle()
    let_go.set()
    for saga_id in (hanging, fine):
        stocked.settle()
        assert must_be_as_told(stocked, TRAVEL, saga_id) == "SUCCEEDED"


def test_a_step_that_hangs_every_time_is_given_up_and_what_it_does_later_is_refused(
    stocked: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stocked.listeners["HotelsHold"], "_budget", 1)
    saga_id = begin(stocked)
    let_go = threading.Event()
    begun = 0
    hung: list[Any] = []

    def hangs(function: str, task: dict[str, Any], run: Any) -> Any:
        nonlocal begun
        if function == "HotelsHold" and task["phase"] == "action":
            begun += 1
            let_go.wait(PATIENCE)
            hung.append(task)
            with pytest.raises(StepCancelledError):
                run()
            raise StepCancelledError
        return run()

    stocked.mishap = hangs
    stocked.settle()
    assert must_be_as_told(stocked, TRAVEL, saga_id) == "COMPENSATED"
    assert stocked.view(saga_id)["reason"]["error"] == "StepTimedOutError"
    assert begun == TRAVEL.retry(TRAVEL.by_name["hotel"]).attempts
    let_go.set()
    until(lambda: len(hung) == 4, "the end of what hung")
    assert must_be_as_told(stocked, TRAVEL, saga_id) == "COMPENSATED"


@pytest.mark.parametrize(
    ("queue", "faults", "status"),
    [
        ("FlightsHold", {}, "COMPENSATED"),
        ("PaymentsAuthorise", {}, "COMPENSATED"),
        ("PaymentsCapture", {}, "COMPENSATED"),
        ("InvoicesIssue", {}, "SUCCEEDED"),
        ("PaymentsAuthorise", {"capture": "reject"}, "COMPENSATED"),
    ],
)
def test_a_message_that_never_comes_is_made_up_for_at_the_deadline(
    stocked: Ground, queue: str, faults: dict[str, str], status: str
) -> None:
    saga_id = begin(stocked, **faults)
    deliver_until(stocked, queue)
    if faults:  # the second message of that queue: the undo
        stocked.deliver(queue)
        deliver_until(stocked, queue)
    stocked.lose(queue)
    stocked.settle()
    assert stocked.view(saga_id)["status"] in ("RUNNING", "COMPENSATING")
    stocked.clock.reset()
    assert stocked.sweep().get(saga_id) is None, "its deadline has not come"
    for _ in range(2):
        passes(stocked)
        stocked.settle()
    assert must_be_as_told(stocked, TRAVEL, saga_id) == status


def test_what_is_parked_is_left_to_the_operator(stocked: Ground) -> None:
    saga_id = begin(stocked, invoice="error:16")
    stocked.settle()
    assert stocked.statuses(saga_id)["invoice"] == "FAILED"
    assert saga_id not in passes(stocked)
    stocked.resolve(saga_id, "invoice", skip=False)
    stocked.settle()
    assert must_be_as_told(stocked, TRAVEL, saga_id) == "SUCCEEDED"


def test_an_undo_that_fails_for_good_lets_the_others_run_and_is_resolved(stocked: Ground) -> None:
    saga_id = begin(stocked, capture="reject", payment__undo="reject:6")
    stocked.settle()
    view = stocked.view(saga_id)
    assert view["status"] == "COMPENSATION_FAILED"
    steps = {step["name"]: step for step in view["steps"]}
    assert (steps["payment"]["status"], steps["payment"]["undo_attempts"]) == ("UNDO_FAILED", 4)
    assert {steps[name]["status"] for name in ("flight", "hotel", "car")} == {"UNDONE"}
    stocked.resolve(saga_id, "payment", skip=False)
    stocked.settle()
    assert must_be_as_told(stocked, TRAVEL, saga_id) == "COMPENSATED"
    assert stocked.statuses(saga_id)["payment"] == "UNDONE"


@pytest.mark.parametrize("steps", range(8))
def test_a_cancel_at_any_moment_is_one_decision(stocked: Ground, steps: int) -> None:
    saga_id = begin(stocked)
    for _ in range(steps):
        stocked.relay()
        for name in stocked.queues:
            if stocked.waiting(name):
                stocked.deliver(name)
    record = stocked.ledger.get(saga_id)
    assert record is not None
    cancelled = stocked.runs.cancel(record)
    stocked.settle()
    status = must_be_as_told(stocked, TRAVEL, saga_id)
    assert status == ("COMPENSATED" if cancelled else "SUCCEEDED")
    told = [one for one in stocked.ledger.get(saga_id).entered if one.sequence]  # type: ignore[union-attr]
    assert told[-1].type == f"recourse.travel-booking.{status.lower()}"


def test_what_goes_from_step_to_step_stays_among_the_steps(stocked: Ground) -> None:
    saga_id = begin(stocked)
    (told,) = (row for row in stocked.rows("ledger", f"outbox#{saga_id}"))
    carried = json.loads(told["event"])["data"]["carried"]
    assert carried["request"]["traveller"] == sample(TRAVEL)["traveller"]
    stocked.settle()
    record = stocked.ledger.get(saga_id)
    assert record is not None
    assert all("carried" not in event.data for event in record.entered)


def test_the_process_of_a_batch_with_a_hanging_thread_ends_when_all_is_answered_for(
    stocked: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = stocked.listeners["HotelsHold"]
    monkeypatch.setattr(listener, "_budget", 0.3)
    hanging, fine = begin(stocked), begin(stocked)
    deliver_until(stocked, "HotelsHold")
    let_go = threading.Event()

    def hangs(function: str, task: dict[str, Any], run: Any) -> Any:
        if task["saga"]["id"] == hanging and function == "HotelsHold" and not let_go.is_set():
            let_go.wait(20)
            raise TransientError("its process has ended")
        return run()

    class Ended(BaseException):
        """The process ends here."""

    left: list[int] = []

    def end() -> None:
        queue = sqs_backends[ACCOUNT]["us-east-1"].queues["HotelsHold"]
        left.append(len(queue._messages))
        raise Ended

    stocked.mishap = hangs
    with monkeypatch.context() as patched, pytest.raises(Ended):
        patched.setattr(stocked, "end", end)
        stocked.deliver("HotelsHold")
    assert left == [1], "what is done is deleted before the process ends"
    assert stocked.waiting("HotelsHold") == 1, "what is to come again is there at once"
    let_go.set()
    stocked.settle()
    for saga_id in (hanging, fine):
        assert must_be_as_told(stocked, TRAVEL, saga_id) == "SUCCEEDED"


def test_a_batch_without_a_hanging_thread_ends_no_process(
    stocked: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(stocked, "end", lambda: ended.append("ended"))
    saga_id = begin(stocked, hotel="error:2")
    stocked.settle()
    assert must_be_as_told(stocked, TRAVEL, saga_id) == "SUCCEEDED"
    assert not ended
