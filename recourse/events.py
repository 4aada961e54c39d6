"""What is told of a saga: CloudEvents 1.0, and the outbox rows that carry them.

Types are `recourse.<saga>.<step>.<done|failed|undone|undo_failed>` and
`recourse.<saga>.<started|succeeded|compensated|compensation_failed>`; `subject` is the saga id. An
event's id is made from the marker it stands for, so the same happening has the same id however
often it is told.

An event of a choreography also carries, as `data.carried`, what the steps that hear it need: the
run (`saga`), the whole `request` and the `results` so far. It stays among the steps: the ledger
takes it off (`public`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from recourse.limits import EVENT, ResultTooLargeError, cut
from recourse.message import PoisonError
from recourse.step import Item

if TYPE_CHECKING:
    from recourse.saga import Saga

KEPT = timedelta(days=14)
"""How long an outbox or inbox row is kept after it was written, for a relay that was down."""


class UnreadableError(PoisonError):
    """A message that is no event: trying again will not make it one."""


def moment(when: datetime) -> str:
    """A moment as every surface shows it: ISO 8601 in UTC with milliseconds."""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    """This moment."""
    return moment(datetime.now(UTC))


def expiry() -> int:
    """When a row that is written now goes: seconds of the epoch."""
    return int((datetime.now(UTC) + KEPT).timestamp())


def error(kind: str, message: str) -> dict[str, str]:
    """An error as events and results show it: the class name of the typed error, and its text.

    A text that is too long is cut (`recourse.limits`).
    """
    return {"type": kind, "message": cut(message)}


def event(
    saga_id: str,
    saga: str,
    what: str,
    *,
    step: str | None = None,
    occasion: str = "",
    **data: Any,
) -> dict[str, Any]:
    """A CloudEvent of a saga, or of one of its steps.

    Args:
        saga_id: The saga.
        saga: Its name.
        what: The last part of the type: `done`, `failed`, `started`, …
        step: The step, where it is one's.
        occasion: What tells it from another of the same type: an undo may fail more than once.
        data: What it says besides `step`.
    """
    path = f"{step}.{what}" if step else what
    return {
        "specversion": "1.0",
        "id": f"{saga_id}.{path}{'.' if occasion else ''}{occasion}",
        "type": f"recourse.{saga}.{path}",
        "source": f"/sagas/{saga}",
        "subject": saga_id,
        "time": now(),
        "datacontenttype": "application/json",
        "data": ({"step": step} if step else {}) | data,
    }


def read(text: str, sagas: Mapping[str, Saga]) -> dict[str, Any]:
    """The event that a message is.

    Args:
        text: The message.
        sagas: Every declaration, by name.

    Raises:
        UnreadableError: It is no event of one of them; the message says why.
    """
    try:
        told: dict[str, Any] = json.loads(text)
        ours, saga, *path = told["type"].split(".")
        declared, step = sagas[saga], told["data"].get("step")
        strange = [name for name in ("id", "subject", "time") if not isinstance(told[name], str)]
        if step is not None and step not in declared.by_name:
            strange.append("step")
        if ours != "recourse" or path[:-1] != ([step] if step else []):
            strange.append("type")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as problem:
        raise UnreadableError(f"this is no event of a saga: {problem!r}") from problem
    if strange:
        raise UnreadableError(f"this is no event of a saga: its {strange[0]} cannot be")
    return told


def public(told: Mapping[str, Any]) -> dict[str, Any]:
    """An event without what it carries from step to step, as everybody else sees it."""
    data = {name: value for name, value in told["data"].items() if name != "carried"}
    return {**told, "data": data}


def outbox_row(told: Mapping[str, Any]) -> Item:
    """The row that takes an event from a step's transaction to the relay.

    Raises:
        ResultTooLargeError: The event is larger than what can be published.
    """
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False)
    if (found := len(text.encode())) > EVENT:
        raise ResultTooLargeError(
            f"step {told['data'].get('step')!r}: its event must be at most {EVENT} bytes, "
            f"got {found}"
        )
    return {
        "pk": f"outbox#{told['id']}",
        "event": text,
        "expires_at": expiry(),
    }


def attributes(told: Mapping[str, Any]) -> dict[str, str]:
    """What SNS filters look at: the type and its parts, and how the step came out.

    `outcome` is absent where the type says all; else `empty` (nothing was there to undo), `skipped`
    (an operator left it) or `parked` (an operator is needed). `coordination` is there only on what
    the steps of a choreography listen to.
    """
    _, saga, *path = told["type"].split(".")
    found = {"type": told["type"], "saga": saga, "kind": path[-1]}
    if len(path) == 2:
        found["step"] = path[0]
    if outcome := told["data"].get("outcome"):
        found["outcome"] = outcome
    if "carried" in told["data"]:
        found["coordination"] = "choreography"
    return found
