"""What waits for somebody's decision, through the API: listed, shown and decided.

The paths follow from the declarations: `Wait("claims", …)` of a step makes `/claims`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Len
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from typing_extensions import TypedDict

from recourse.declare.ids import BadSagaIdError, SagaId
from recourse.declare.request import request_model
from recourse.declare.wait import Waits
from recourse.functions import kit
from recourse.functions.api import http
from recourse.functions.api.parameters import CURSOR, LIMIT, Choice
from recourse.functions.api.routes import Answer, Operation, Page, Routes, SagaName
from recourse.functions.api.sagas import must_be_deployed, not_moved_on
from recourse.functions.caller import Caller
from recourse.ledger.queries import MOST_EXAMINED
from recourse.ledger.record import Record
from recourse.ledger.shapes import UnknownShapeError
from recourse.problems import ProblemError, invalid
from recourse.store.cursors import BadCursorError, cursor_after, started_of

if TYPE_CHECKING:
    from recourse.declare.saga import Saga
    from recourse.declare.shape import AnyStep
    from recourse.events import Event

logger = Logger()
STATUS = Choice("status", "only these: those that wait for a decision", ["open"])


@request_model
class Decision:
    """A decision; a rejection needs a reason."""

    decision: Literal["approve", "reject"]
    reason: Annotated[str, Len(0, 1000)] | None = None


class _Decided(TypedDict):
    decision: Literal["approve", "reject"]
    reason: str
    by: str
    at: str


class QuestionView(TypedDict):
    """A question of a saga, and what was decided; `about` is what its step shows of it."""

    id: str
    saga: Annotated[str, SagaName()]
    step: str
    status: Literal["open", "approved", "rejected", "expired", "withdrawn"]
    about: dict[str, Any]
    to: str | None
    asked_at: str
    answer_by: str
    reminded_at: str | None
    decided: _Decided | None
    links: dict[str, str]


class DecisionRoutes(Routes):
    """Routes whose paths begin with what questions are called."""

    def methods(self, path: str) -> set[str]:
        """The methods that a path answers: none, where no question is called so."""
        return super().methods(path) if path.split("/")[1] in kit.questions() else set()


routes = DecisionRoutes("Decisions", "What waits for somebody's decision")


def _waits(sagas: Mapping[str, Saga]) -> list[Waits]:
    """Every wait that the sagas have, once for each name."""
    steps = (step for saga in sagas.values() for step in saga.all)
    found = {step.waits.name: step.waits for step in steps if step.waits}
    return list(found.values())


def _lists(sagas: Mapping[str, Saga]) -> Iterator[Operation]:
    for waits in _waits(sagas):
        yield Operation(
            f"list-{waits.name}",
            f"List the {waits.name} that wait for a decision, the most urgent first",
            scope=waits.scope,
            path=f"/{waits.name}",
            parameters=[STATUS, CURSOR, LIMIT],
            answers=[Answer(200, "a page, and the cursor of the next", Page[QuestionView])],
        )


def _shows(sagas: Mapping[str, Saga]) -> Iterator[Operation]:
    for waits in _waits(sagas):
        yield Operation(
            f"show-{waits.name}",
            f"Show one of the {waits.name}, open or decided",
            scope=waits.scope,
            path=f"/{waits.name}/<id>",
            answers=[Answer(200, "the question", QuestionView)],
            problems=["not-found"],
        )


def _decides(sagas: Mapping[str, Saga]) -> Iterator[Operation]:
    for waits in _waits(sagas):
        yield Operation(
            f"decide-{waits.name}",
            f"Decide one of the {waits.name}, once",
            scope=waits.scope,
            path=f"/{waits.name}/<id>/decision",
            takes=Decision,
            example={"decision": "approve"},
            answers=[Answer(200, "the question, decided", QuestionView)],
            problems=["not-found", "not-open", "not-deployed", "shape-unknown"],
        )


@routes.get("/<name>", _lists)
def page(name: str) -> Response[str]:
    """List what waits for a decision, the most urgent first."""
    event = routes.current_event
    who = _caller(name)
    STATUS.of(event)
    try:
        after = started_of(event.query_string_parameters.get("cursor"))
    except BadCursorError:
        raise ProblemError("bad-cursor", "use the cursor of the previous page") from None
    limit = LIMIT.of(event)
    items: list[dict[str, Any]] = []
    examined = 0
    for record in kit.ledger().queries.waiting(name, who.subject, after=after):
        found = _found(record, name, who)
        if found is not None:
            if len(items) == limit:
                return http.answer(200, {"items": items, "cursor": cursor_after(str(after))})
            items.append(_view(record, *found))
        after, examined = record.due_at, examined + 1
        if examined == MOST_EXAMINED:
            return http.answer(200, {"items": items, "cursor": cursor_after(str(after))})
    return http.answer(200, {"items": items, "cursor": None})


@routes.get("/<name>/<id>", _shows)
def show(name: str, id: str) -> Response[str]:
    """Show a question, open or decided."""
    record, step, asked = _question(name, id, _caller(name))
    return http.answer(200, _view(record, step, asked))


@routes.post("/<name>/<id>/decision", _decides)
def decide(name: str, id: str) -> Response[str]:
    """Decide a question, once."""
    who = _caller(name, decides=True)
    record, step, asked = _question(name, id, who)
    if asked.question.get("to") not in (None, who.subject):
        # An operator sees what others are asked, also one who may decide what nobody is named for.
        raise ProblemError("forbidden", "this is put to somebody else, who alone decides it")
    body = http.body(routes.current_event, Decision)
    reason = (body["reason"] or "").strip()
    approved = body["decision"] == "approve"
    if not approved and not reason:
        raise invalid("reason", "a rejection needs a reason")
    runs = not record.is_choreographed
    shape = kit.ledger().shape(record)
    must_be_deployed(shape, *(shape.by_name if runs else [step.name]), runs=runs)
    found = kit.decisions(not_moved_on).decide(
        record, step, approved=approved, reason=reason, by=who.subject
    )
    if found.taken:
        return http.answer(200, _view(record, step, asked, found.answer))
    if found.answer is not None:
        first = found.answer
        what = "approved" if first["approved"] else "rejected"
        why = f": {first['reason']}" if first["reason"] else ""
        raise ProblemError("not-open", f"{first['by']} has {what} it at {first['at']}{why}")
    if found.late:
        raise ProblemError("not-open", f"its time was up at {asked.question['answer_by']}")
    raise ProblemError("not-open", "it was withdrawn: its saga is being undone")


def _caller(name: str, *, decides: bool = False) -> Caller:
    """Who calls, and may see such questions; an operator may, and decides none without the scope.

    Raises:
        NotFoundError: No question is called so.
        ProblemError: The caller may not.
    """
    waits = kit.questions().get(name)
    if waits is None:
        raise NotFoundError  # there is no such route, or not with this method
    return http.caller(routes.current_event, waits.scope, or_operator=not decides)


def _question(name: str, saga_id: str, who: Caller) -> tuple[Record, AnyStep, Event]:
    """A question that the caller may see.

    Raises:
        ProblemError: There is none, or it is put to somebody else: both answer 404.
    """
    try:
        record = kit.ledger().get(SagaId(saga_id))
    except BadSagaIdError:
        record = None
    found = None if record is None else _found(record, name, who)
    if record is None or found is None:
        raise ProblemError("not-found", f"none of the {name} is {saga_id!r}")
    return record, *found


def _found(record: Record, name: str, who: Caller) -> tuple[AnyStep, Event] | None:
    """The step that asks, and its question, where the caller may see it."""
    try:
        shape = kit.ledger().shape(record)
    except UnknownShapeError:
        return None
    step = shape.waiting.get(name)
    asked = step and record.history(shape).told(step.name).get("asked")
    if step is None or asked is None:
        return None
    to = asked.question.get("to")
    return (step, asked) if to is None or who.owns(to) else None


def _view(
    record: Record, step: AnyStep, asked: Event, answer: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A question, and what was decided: `answer`, or what the events say."""
    told = record.history(kit.ledger().shape(record)).told(step.name)
    ended = next((told[kind] for kind in ("done", "failed", "undone") if kind in told), None)
    answer = answer or (ended.answer if ended else None) or None
    if answer:
        status = "approved" if answer["approved"] else "rejected"
    else:
        status = "open" if ended is None else "expired" if ended.kind == "failed" else "withdrawn"
    question = asked.question
    path = f"/{question['name']}/{record.saga_id}"
    return {
        "id": record.saga_id,
        "saga": record.saga,
        "step": step.name,
        "status": status,
        "about": question["about"],
        "to": question.get("to"),
        "asked_at": question["asked_at"],
        "answer_by": question["answer_by"],
        "reminded_at": told["reminded"].time if "reminded" in told else None,
        "decided": answer
        and {
            "decision": "approve" if answer["approved"] else "reject",
            **{name: answer[name] for name in ("reason", "by", "at")},
        },
        "links": {"self": path, "decision": f"{path}/decision"},
    }
