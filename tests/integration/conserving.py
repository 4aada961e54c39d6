"""A town: accounts, stock and a card provider, which sixteen clients at once use as they like.

Each client draws what it does from a seed: it starts a saga of any kind, with faults, or does again
what it or another has asked; it cancels, decides on a claim, reverses. Its orchestrations run in
its own thread, so that sixteen meet at the same rows; meanwhile messages come in any order, twice,
or not at all before they come again. Then all is brought to rest, and what every account, every
thing and the provider's books must say is reckoned from the requests and the sagas' ends alone.

No step is skipped, so nothing is left to an operator but to try again.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Lock, get_ident
from typing import Any
from unittest import mock

from recourse.declare.declaration import Coordination
from recourse.errors import TransientError
from recourse.ledger.history import AT_REST
from recourse.ledger.record import Record
from recourse.orchestration import sweeper
from recourse.testing.ground import HANGING, Mishap
from samples.provider import FAULTS as BREAKDOWNS
from services.gateways import exchange
from services.holdings import HOLDINGS, CountedBody
from statemachines import SAGAS
from tests.ground import Ground, ground
from tests.integration.test_every_saga import (
    COORDINATIONS,
    PAST_EVERY_DEADLINE,
    dead_lettered,
    from_outside,
    must_add_up,
    must_be_as_marked,
    must_have_ended,
    stuck,
    targets,
)

CLIENTS = 16
WAVE = 2 * CLIENTS
"""How many sagas the clients start before time passes; until then what is put off waits."""
TARGETS = {name: targets(saga) for name, saga in SAGAS.items()}
PRICES = {
    ("flights", "east"): 4001,
    ("flights", "west"): 7013,
    ("hotels", "plain"): 5003,
    ("hotels", "grand"): 9007,
    ("cars", "small"): 2003,
    ("stock", "mug"): 101,
    ("stock", "lamp"): 997,
    ("slots", "early"): 1511,
    ("slots", "late"): 2503,
}
PER_HUNDRED = dict(zip(PRICES, (30, 12, 25, 12, 10, 150, 30, 9, 4), strict=True))
"""How many there are of each for a hundred sagas: of some too few."""
COVERED = {"none": 0, "most": 80, "all": 100, "asked": 33}
BALANCE = 60_000
"""What each account has for a hundred sagas: of some too little."""
PERSONAL = [f"account-{number}" for number in range(8)]
KINDS = {"travel-booking": 5, "order": 4, "card-order": 3, "transfer": 5, "visit": 3}
"""The sagas that are started, and how often."""
PERSON = {"name": "Asha Rao", "email": "asha@example.com"}


@dataclass(frozen=True)
class Asked:
    """What a client asked for once, or several times.

    Attributes:
        saga: Of which saga.
        body: The request.
        how: The rest that a start takes.
        outside: What is done to it around one call, if anything.
    """

    saga: str
    body: Mapping[str, Any]
    how: Mapping[str, Any]
    outside: tuple[Any, ...] | None = None


@dataclass
class Town:
    """Sagas of every kind at once.

    Attributes:
        ground: Where they run.
        seed: Decides what the clients ask for; not in which order their threads get on.
        sagas: How many are started, reversals not counted.
        asked: What was asked for, by saga id.
        reversing: The saga that each reversing one reverses.
        begun: How many have been started.
        figures: How much there was of what.
        mishaps: What is done to some sagas around a call.
    """

    ground: Ground
    seed: int
    sagas: int
    asked: dict[str, Asked] = field(default_factory=dict)
    reversing: dict[str, str] = field(default_factory=dict)
    begun: int = 0
    figures: Counter[str] = field(default_factory=Counter)
    mishaps: dict[str, Mishap] = field(default_factory=dict)
    _lock: Any = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._stock()
        self.ground.mishap = self._mishap
        self.ground.end = self._choreographed_ended
        self._before = {one: self._balance(one) for one in self._accounts}

    # What there is.

    def _stock(self) -> None:
        made, times = self.ground, max(1, self.sagas / 100)
        for (kind, thing), price in PRICES.items():
            total = round(PER_HUNDRED[kind, thing] * times)
            made.put(kind, thing, {"total": total, "price": {"amount": price, "currency": "INR"}})
        for policy, percent in COVERED.items():
            decision = "manual" if policy == "asked" else "auto"
            made.put("policies", policy, {"covers": {"percent": percent}, "decision": decision})
        for account in PERSONAL:
            balance = round(BALANCE * times)
            made.put("accounts", account, {"currency": "INR", "balance": balance})
        # So many ask for what it has that sixteen meet where it has no more.
        made.put("accounts", "poor", {"currency": "INR", "balance": round(8000 * times)})
        made.put("accounts", "euro", {"currency": "EUR", "balance": BALANCE})
        hers = {"currency": "INR", "balance": BALANCE, "owner": "client-0"}
        made.put("accounts", "hers", hers)

    @property
    def _accounts(self) -> list[str]:
        return [thing for kind, thing in self.ground.stock if kind == "accounts"]

    def _balance(self, account: str) -> int:
        return int(self.ground.held("accounts", account)["balance"])

    # What clients do.

    def play(self) -> None:
        """Have the clients do all that they do, then bring every saga to rest."""
        began = time.monotonic()
        draw = random.Random(f"{self.seed}: messages")
        clients = [random.Random(f"{self.seed}: client {number}") for number in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as pool:
            while self.begun < self.sagas:
                goal = min(self.begun + WAVE, self.sagas)
                at_work = [
                    pool.submit(self._client, number, one, goal)
                    for number, one in enumerate(clients)
                ]
                self._deliver_while(at_work, draw)
                for one in at_work:
                    one.result()
                self._must_add_up()
                for _ in range(draw.randint(0, 200)):
                    if not self._deliver(draw):
                        self.ground.pass_time()
        self._bring_to_rest(draw)
        self.figures["seconds"] = round(time.monotonic() - began)

    def _client(self, number: int, draw: random.Random, goal: int) -> None:
        while self.begun < goal:
            what = draw.random()
            if what < 0.6 or not self.asked:
                with self._lock:
                    if self.begun == goal:
                        return
                    self.begun += 1
                    key = f"{self.seed}-{self.begun}"
                self._start(f"client-{number}", key, draw)
            else:
                with self._lock:
                    saga_id = draw.choice(list(self.asked))
                if what < 0.7:
                    self._count("asked again")
                    self._ask(saga_id, self.asked[saga_id])
                elif what < 0.77:
                    self._cancel(saga_id)
                elif what < 0.9:
                    self._decide(draw)
                else:
                    self._reverse(draw)

    def _count(self, what: str, times: int = 1) -> None:
        with self._lock:
            self.figures[what] += times

    def _start(self, owner: str, key: str, draw: random.Random) -> None:
        saga = draw.choices(list(KINDS), list(KINDS.values()))[0]
        body, how = self._body(saga, key, draw), self._how(saga, draw)
        outside = None
        if draw.random() < 0.2:
            outside = (
                draw.choice(["abort", "cancel", "kill"]),
                draw.choice(SAGAS[saga].all).name,
                draw.choice(["action", "undo", "settle"]),
                draw.random() < 0.5,
            )
            self._count(outside[0])
        if saga == "card-order" and draw.random() < 0.2:
            operation, what = (
                draw.choice(["authorise", "capture", "cancel"]),
                draw.choice(BREAKDOWNS),
            )
            self.ground.books.ask_for(operation, what, times=draw.choice([1, 4]), seconds=0.3)
            self._count("the provider's faults")
        asked = Asked(saga, body, {"key": key, "owner": owner, **how}, outside)
        self._ask(None, asked)

    def _ask(self, saga_id: str | None, asked: Asked) -> None:
        """Ask for a saga, for the first time or again; it is known before its run begins."""
        started = self.ground.start(asked.saga, asked.body, run=False, **asked.how)
        assert saga_id in (None, started), "asked again it is the same saga"
        with self._lock:
            is_new = started not in self.asked
            self.asked[started] = asked
            if is_new and asked.outside:
                self.mishaps[started] = from_outside(self.ground, *asked.outside)
        self._run(started)

    def _run(self, saga_id: str) -> None:
        record = self.ground.ledger.get(saga_id)
        assert record is not None
        with suppress(TransientError):  # it is left to the sweeper, as by the API
            self.ground.runs.start(record)

    def _how(self, saga: str, draw: random.Random) -> dict[str, Any]:
        """A coordination, and faults that pass: then nothing is left to skip."""
        coordination: Coordination = draw.choice(COORDINATIONS)
        faults = {}
        for target, fault in draw.sample(TARGETS[saga], draw.choice([0, 0, 0, 1, 2])):
            faults[target] = f"{fault}:{draw.randint(1, 6)}"
        self._count(coordination)
        self._count("faults", len(faults))
        return {"coordination": coordination, "faults": faults}

    def _body(self, saga: str, key: str, draw: random.Random) -> dict[str, Any]:
        account = draw.choice([*PERSONAL * 2, *["poor"] * 8, "euro", "hers", "nobody"])
        lines = [
            {"sku": draw.choice(["mug", "mug", "lamp"]), "quantity": draw.randint(1, 5)}
            for _ in range(draw.randint(1, 3))
        ]
        match saga:
            case "travel-booking":
                hotel = {"id": draw.choice(["plain", "grand"]), "rooms": 1}
                car = {"id": "small", "days": draw.randint(1, 4)}
                return {
                    "trip_id": key,
                    "traveller": PERSON,
                    "flight": {
                        "id": draw.choice(["east", "east", "west"]),
                        "seats": draw.randint(1, 2),
                    },
                    "hotel": hotel | {"nights": draw.randint(1, 3)},
                    "car": draw.choice([car, None]),
                    "payment": {"account_id": account},
                }
            case "order":
                paid = {"account_id": account}
                return {"order_id": key, "customer": PERSON, "lines": lines, "payment": paid}
            case "card-order":
                card = {"token": draw.choice(["tok_visa"] * 5 + ["tok_declined"])}
                return {"order_id": key, "customer": PERSON, "lines": lines, "card": card}
            case "transfer":
                # In a circle, back, and to anybody.
                at = draw.randrange(len(PERSONAL))
                near = [PERSONAL[at - 1], PERSONAL[(at + 1) % len(PERSONAL)]]
                payee = draw.choice([*near * 4, "poor", "euro", "hers", "nobody"])
                amount = draw.choice([1, *[draw.randint(1, BALANCE)] * 6, 10**15])
                return {
                    "transfer_id": key,
                    "from_account": draw.choice([PERSONAL[at]] * 8 + ["hers", "euro"]),
                    "to_account": payee,
                    "amount": {"amount": amount, "currency": "INR"},
                }
            case _:
                return {
                    "visit_id": key,
                    "patient": PERSON,
                    "slot_id": draw.choice(["early", "early", "late"]),
                    "policy_id": draw.choice([*COVERED, "asked", "asked"]),
                    "payment": {"account_id": account},
                }

    def _cancel(self, saga_id: str) -> None:
        record = self.ground.ledger.get(saga_id)
        if record is not None and record.status == "RUNNING":
            with suppress(TransientError):
                self._count("cancelled" if self.ground.cancel(saga_id) else "cancelled too late")

    def _decide(self, draw: random.Random) -> None:
        """Decide on one of the claims that are open, or were a moment ago."""
        with self._lock:
            waiting = [one for one, asked in self.asked.items() if asked.saga == "visit"]
        draw.shuffle(waiting)
        for saga_id in waiting:
            record = self.ground.ledger.get(saga_id)
            if record is not None and record.waits_for is not None:
                approved = draw.random() < 0.7
                with suppress(TransientError):
                    taken = self.ground.decide(
                        saga_id, "claim", approved=approved, reason="so", by="insurer"
                    ).taken
                    self._count("decided" if taken else "decided too late")
                return

    def _reverse(self, draw: random.Random) -> None:
        """Reverse one that has succeeded, perhaps again; of many that are tried."""
        with self._lock:
            tried = draw.sample(list(self.asked), min(20, len(self.asked)))
        for saga_id in tried:
            if (reverse := SAGAS[self.asked[saga_id].saga].reverse) is None:
                continue
            record = self.ground.ledger.get(saga_id)
            if record is not None and record.status == "SUCCEEDED":
                how = self._how(reverse, draw)
                reversing = self.ground.reverse(saga_id, run=False, **how)
                with self._lock:
                    self.reversing[reversing] = saga_id
                self._run(reversing)
                return

    # What becomes of messages.

    def _deliver_while(self, at_work: list[Future[None]], draw: random.Random) -> None:
        rounds = 0
        while not all(one.done() for one in at_work):
            rounds += 1
            if not self._deliver(draw):
                time.sleep(0.001)
            if rounds % 25 == 0:
                self._must_add_up()

    def _deliver(self, draw: random.Random) -> int:
        made = self.ground
        waiting = [name for name in made.queues if made.waiting(name)]
        if not waiting or draw.random() < 0.3:
            return made.relay(draw.randint(1, 20), shuffle=draw, twice=draw.random() < 0.2)
        return made.deliver(
            draw.choice(waiting),
            draw.randint(1, 10),
            shuffle=draw,
            twice=draw.random() < 0.1,
            lost=draw.random() < 0.1,
        )

    def _mishap(self, function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        own = self.mishaps.get(task["saga"]["id"]) if "saga" in task else None
        return own(function, task, run) if own else run()

    def _choreographed_ended(self) -> None:
        """Wait for what a queue's function has begun; clients are at work meanwhile."""
        own, made = get_ident(), self.ground

        def ended() -> bool:
            return not any(
                thread != own and self._is_choreographed(saga_id)
                for thread, (saga_id, _) in made._tries.items()
            )

        with made._tries_change:
            assert made._tries_change.wait_for(ended, HANGING), made._tries

    def _is_choreographed(self, saga_id: str) -> bool:
        record = self.ground.ledger.get(saga_id)
        return record is not None and record.is_choreographed

    # How it ends.

    def _has_run(self, record: Record) -> bool:
        """Whether the run that a saga is at was ever started; else the sweeper starts it."""
        return self.ground.runs.describe(record).state != "ABSENT"

    def _bring_to_rest(self, draw: random.Random) -> None:
        self.ground.books.recover()
        for _ in range(40):
            self.ground.settle(shuffle=draw, twice=draw.random() < 0.5)
            self._let_the_provider_end()
            left = [one for one in self.everything if not self._is_at_rest(one)]
            if not left:
                return
            for saga_id in left:
                record = self.ground.ledger.get(saga_id)
                assert record is not None
                if waiting := stuck(self.ground, SAGAS[record.saga], saga_id):
                    self.figures["tried again by an operator"] += 1
                    self.ground.resolve(saga_id, waiting[0], skip=False)
                elif record.waits_for is not None and draw.random() < 0.5:
                    self._decide(draw)
                elif not record.is_choreographed and self._has_run(record):
                    self.ground.hear_of_end(saga_id, record.run)
            self.ground.sweep(PAST_EVERY_DEADLINE)
        views = [(self._told(one), self.ground.view(one)) for one in left]
        raise AssertionError(f"not at rest: {json.dumps(views, default=str)}")

    @property
    def everything(self) -> list[str]:
        """Every saga: those that clients started, and those that reverse others."""
        return [*self.asked, *self.reversing]

    def _is_at_rest(self, saga_id: str) -> bool:
        record = self.ground.ledger.get(saga_id)
        assert record is not None
        return record.status in AT_REST and record.status != "COMPENSATION_FAILED"

    def _let_the_provider_end(self) -> None:
        while self.ground.books.busy:
            time.sleep(0.01)

    def _resting(self) -> list[tuple[str, str, Any]]:
        """What rests in dead-letter queues, and why."""
        return [
            (name, one.body, one.message_attributes)
            for name in dead_lettered(self.ground)
            for one in self.ground._backend[name]._messages
        ]

    def _told(self, saga_id: str) -> str:
        return f"seed {self.seed}: {saga_id}: {self.asked.get(saga_id, self.reversing)}"

    # What must be then.

    def _must_add_up(self) -> None:
        """It holds at any time, so nothing is written while it is looked at."""
        with self.ground.alone:
            must_add_up(self.ground)
        self._count("looks at all accounts and things")

    def must_be_conserved(self) -> None:
        """Every saga has ended; accounts, things and books are what the ends say, to the unit."""
        must_add_up(self.ground)
        assert len(self.asked) == self.begun == self.sagas
        assert dead_lettered(self.ground) == {}, self._resting()
        self.ground.clear()
        assert self.ground.asked() == {}, "of sagas at rest nobody is asked anything"
        ended = {one: self._end(one) for one in self.everything}
        taken_back = {self.reversing[one] for one in self.reversing if ended[one] == "SUCCEEDED"}
        balances, confirmed = Counter(self._before), Counter[tuple[str, str]]()
        for saga_id, asked in self.asked.items():
            self.figures[f"{asked.saga} {ended[saga_id]}"] += 1
            if asked.saga == "card-order":
                self._must_be_booked(saga_id, ended[saga_id])
            if ended[saga_id] != "SUCCEEDED" or saga_id in taken_back:
                continue
            bought = things_of(asked)
            confirmed.update(bought)
            price = sum(PRICES[thing] * times for thing, times in priced(asked, bought).items())
            if asked.saga == "visit":
                price -= price * COVERED[asked.body["policy_id"]] // 100
            if asked.saga == "transfer":
                amount = asked.body["amount"]["amount"]
                balances[asked.body["from_account"]] -= amount
                balances[asked.body["to_account"]] += amount
            elif asked.saga != "card-order":
                balances[asked.body["payment"]["account_id"]] -= price
            self.figures["minor units moved"] += amount if asked.saga == "transfer" else price
        for saga_id in self.reversing:
            self.figures[f"reversal {ended[saga_id]}"] += 1
        for account in self._accounts:
            shown = self.ground.held("accounts", account)
            assert (shown["balance"], shown["held"]) == (balances[account], 0), shown
            assert shown["available"] >= 0
            self.figures["in accounts, as shown"] += shown["balance"]
            self.figures["in accounts, as reckoned"] += balances[account]
        for kind, thing in self.ground.stock:
            if issubclass(HOLDINGS[kind].body, CountedBody):
                shown = self.ground.held(kind, thing)
                assert (shown["held"], shown["confirmed"]) == (0, confirmed[kind, thing]), shown
                self.figures["confirmed, as shown"] += shown["confirmed"]
                self.figures["confirmed, as reckoned"] += confirmed[kind, thing]

    def _end(self, saga_id: str) -> str:
        record = self.ground.ledger.get(saga_id)
        assert record is not None
        try:
            status = must_be_as_marked(self.ground, SAGAS[record.saga], saga_id)
            must_have_ended(self.ground, saga_id, status)
            assert status in ("SUCCEEDED", "COMPENSATED")
        except AssertionError as problem:
            problem.add_note(self._told(saga_id))
            raise
        return status

    def _must_be_booked(self, saga_id: str, status: str) -> None:
        """The provider has captured once what has succeeded, and holds nothing of the rest."""
        asked = self.asked[saga_id]
        price = sum(PRICES[thing] * times for thing, times in things_of(asked).items())
        turns = self._turns.get(saga_id, Counter())
        assert max(turns.values(), default=0) <= 1, (self._told(saga_id), turns)
        booked = self.ground.books.payments.get(saga_id, {"status": None, "amount": 0})
        if status == "SUCCEEDED":
            assert (booked["status"], booked["amount"]) == ("CAPTURED", price), self._told(saga_id)
            assert turns == {"authorise": 1, "capture": 1}, self._told(saga_id)
            self.figures["captured, as booked"] += booked["amount"]
            self.figures["captured, as reckoned"] += price
        else:
            assert booked["status"] in (None, "CANCELLED", "REFUNDED"), self._told(saga_id)
            assert turns["capture"] == turns["refund"], self._told(saga_id)

    @property
    def _turns(self) -> Mapping[str, Counter[str]]:
        turns: dict[str, Counter[str]] = {}
        for entry in self.ground.books.journal:
            turns.setdefault(entry["reference"], Counter())[entry["operation"]] += 1
        return turns


def things_of(asked: Asked) -> Counter[tuple[str, str]]:
    """How many of which things a saga takes."""
    body = asked.body
    match asked.saga:
        case "travel-booking":
            taken = Counter({("flights", body["flight"]["id"]): body["flight"]["seats"]})
            taken["hotels", body["hotel"]["id"]] += body["hotel"]["rooms"]
            if body["car"]:
                taken["cars", body["car"]["id"]] += 1
            return taken
        case "order" | "card-order":
            taken = Counter()
            for line in body["lines"]:
                taken["stock", line["sku"]] += line["quantity"]
            return taken
        case "visit":
            return Counter({("slots", body["slot_id"]): 1})
        case _:
            return Counter()


def priced(asked: Asked, bought: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """The same, times the nights and days that are paid."""
    if asked.saga != "travel-booking":
        return bought
    times = Counter(bought)
    times["hotels", asked.body["hotel"]["id"]] *= asked.body["hotel"]["nights"]
    if asked.body["car"]:
        times["cars", asked.body["car"]["id"]] *= asked.body["car"]["days"]
    return times


@contextmanager
def town(seed: int, sagas: int) -> Iterator[Town]:
    """A town that is played to its end, and in which nothing is wrong."""
    with (
        mock.patch.object(sweeper, "GRACE_PERIOD", timedelta(0)),
        mock.patch.object(exchange, "LONGEST", 0.2),
        ground() as made,
    ):
        one = Town(made, seed, sagas)
        one.play()
        one.must_be_conserved()
        yield one
