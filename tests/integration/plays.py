"""A saga at a step of the bench: asked for one phase after another, and what it may come to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType

from recourse.declare.ids import SagaId
from recourse.declare.step import Call, Decision, Document, action
from recourse.errors import Refusal, StepCancelledError, TransientError
from recourse.run.barrier import marker_key
from recourse.run.runner import StepRunner
from recourse.store.items import decode_item, encode_item
from recourse.testing.handlers import ACCOUNT
from tests.integration.bench import TABLE, Ask, Bench, SoldOutError, book, hold, release
from tests.integration.charging import Provider, decline, no_answer

TIMEOUT = 30.0
LOST = {"hold": {"Error": "States.Timeout", "Cause": ""}}
Outcome = tuple[str, Any]
"""How a phase came out: `answered` and with what, or `raised` and by which name."""
NOT_NOW: Outcome = ("raised", "TransientError")
_sagas = itertools.count()


@action(Ask, reads=hold.reads, refuses=[SoldOutError], documents=True)
def hold_on_paper(call: Call[Ask]) -> Decision:
    """The bench's action, with a document."""
    paper = Document(f"papers/{call.saga_id}", b"held", "text/plain")
    return replace(hold(call), documents=[paper])


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A phase, and how its step has come to it.

    Attributes:
        phase: What is asked for.
        past: What was before, in order: phases, or what became of a try of an external action:
            `charged` and `unreached` (no answer came, and the provider had or had not heard of it);
            `long ago` lets the time of every try pass.
        step: Whether it acts in the table alone, or calls a provider.
        role: Where it stands.
        wanted: How many of the five things it holds; of nine there are too few.
        declines: Whether the provider declines.
        options: What else its task says.
    """

    phase: str = "action"
    past: tuple[str, ...] = ()
    step: Literal["local", "external"] = "local"
    role: str = "compensable"
    wanted: int = 2
    declines: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = [self.step, self.role, self.phase, *(f"after {one}" for one in self.past)]
        told += [f"{self.wanted} wanted"] if self.wanted != 2 else []
        told += ["declined"] if self.declines else []
        return ", ".join([*told, *self.options])


class Play:
    """One saga in a scene."""

    def __init__(self, bench: Bench, scene: Scene) -> None:
        self.scene = scene
        self.saga = SagaId.of("shop", "o", f"play-{next(_sagas)}")
        self.taken = 0
        self.papers: dict[str, Document] = {}
        self.provider = Provider()
        self._bench = Bench(bench.dynamodb)
        # Straight from moto's table, for there are thousands of plays.
        self._table: Any = dynamodb_backends[ACCOUNT]["us-east-1"].tables[TABLE]
        self._table.put_item(encode_item({"pk": "thing#1", "free": 5}))
        steps: tuple[Any, ...] = (hold_on_paper, release, book)
        if scene.step == "external":
            steps = (self.provider.action, self.provider.undo)
        elif scene.role == "pivot":
            steps = (hold_on_paper,)
        self._runner = StepRunner(
            bench.dynamodb, TABLE, *steps, store=self._keep, **self._bench.time
        )
        if scene.declines:
            self.provider.charging = decline
        for moment in scene.past:
            self._happen(moment)

    def _keep(self, document: Document) -> None:
        self.papers[document.key] = document

    def _happen(self, moment: str) -> None:
        match moment:
            case "long ago":
                self.pass_time()
            case "charged":
                self._charge_unheard()
            case "unreached":
                self.provider.charging = no_answer
                assert self.ask("action") == NOT_NOW
                self.provider.charging = lambda: None
            case phase:
                self.finish(phase)

    def _charge_unheard(self, **options: Any) -> None:
        self.provider.charged = no_answer
        assert self.ask("action", **options) == NOT_NOW
        self.provider.charged = lambda: None

    def pass_time(self) -> None:
        """Let the time of every try pass."""
        self._bench.naps.append(TIMEOUT)

    @property
    def waited(self) -> float:
        """Seconds for which anything has waited so far."""
        return sum(self._bench.naps)

    def ask(self, phase: str = "", **options: Any) -> Outcome:
        """Ask for a phase once; without a name for the scene's own."""
        if not phase:
            phase, options = self.scene.phase, {**self.scene.options, **options}
        if phase in ("settle", "give_up"):
            options = {"failure": LOST, "tries": 4} | options
        try:
            answer = self._bench.ask(
                phase,
                self.saga,
                self._runner,
                role=self.scene.role,
                request={"wanted": self.scene.wanted},
                **{"timeout": TIMEOUT} | options,
            )
        except (TransientError, StepCancelledError, Refusal) as problem:
            return "raised", type(problem).__name__
        return "answered", {"charge": "…"} if answer == {"charge": self.saga} else answer

    def finish(self, phase: str = "") -> Outcome:
        """Ask for a phase until it comes to something, as a state machine does."""
        for _ in range(4):
            if (outcome := self.ask(phase)) != NOT_NOW:
                return outcome
            self.pass_time()
        raise AssertionError(f"{phase or self.scene.phase} never comes to an end")

    def meet(self, other: str) -> Outcome | None:
        """Let something else come, and answer how it came out.

        Args:
            other: A phase; or `rival`, another saga that takes all that is left; or `younger` or
                `older`, another try, asked for later or sooner, that charges and is not heard.
        """
        if other == "rival":
            self.taken = self._bench.free
            rival = SagaId.of("shop", "rival", self.saga)
            assert self._bench.ask(saga_id=rival, request={"wanted": self.taken})
        elif other in ("younger", "older"):
            charging, self.provider.charging = self.provider.charging, lambda: None
            self._charge_unheard(timeout=TIMEOUT if other == "younger" else TIMEOUT / 2)
            self.provider.charging = charging
        else:
            return self.ask(other)
        return None

    def must_be_legal(self) -> None:
        """Bring to rest what is open; then there is one effect or none, and all say the same."""
        acted = self._row(marker_key(self.saga, "hold", "action"))
        if "until" in acted and acted["outcome"] in ("begun", "cancelled"):
            self.pass_time()
            self.finish("settle" if self.scene.role == "pivot" else "undo")
        acted, undone, booked, row, thing, *told = self._rows()
        outcome, ending = acted.get("outcome"), undone.get("outcome")
        if outcome == "skipped":
            assert not row
        elif self.scene.step == "external":
            assert bool(row) == (outcome == "done")
            charged = self.provider.books.get(self.saga) == "CHARGED"
            assert charged == (outcome == "done" and ending != "done")
        else:
            assert bool(row) == (outcome == "done")
            assert bool(row) <= bool(self.papers), "whatever dies, what is committed has its paper"
            turned = "RELEASED" if ending == "done" else "BOOKED" if booked else "HELD"
            assert not row or row["status"] == turned
            holds = bool(row) and ending != "done"
            assert thing["free"] == 5 - self.taken - (self.scene.wanted if holds else 0)
        if ending == "empty":
            assert outcome in ("refused", "cancelled")
        done, failed, reversed_ = (bool(one) for one in told)
        assert done == (outcome in ("done", "skipped"))
        assert reversed_ == bool(undone)
        assert failed or "error" not in acted

    def _rows(self) -> list[dict[str, Any]]:
        row = "charge" if self.scene.step == "external" else "hold"
        told = (f"outbox#{self.saga}.hold.{what}" for what in ("done", "failed", "undone"))
        sides: tuple[Any, ...] = ("action", "undo", "confirm")
        keys = [*(marker_key(self.saga, "hold", side) for side in sides), f"{row}#{self.saga}"]
        keys += ["thing#1", *told]
        return [self._row(key) for key in keys]

    def _row(self, key: str) -> dict[str, Any]:
        found = self._table.get_item(DynamoType({"S": key}))
        return decode_item(found.to_json()["Attributes"]) if found else {}
