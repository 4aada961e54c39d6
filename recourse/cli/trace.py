"""`recourse trace`: what happened in a saga, and when, as the tree of its trace.

Its data come through the API: the saga, its events, and the attempts to deliver these to the
caller's webhooks. The spans' ids are those that its events have and that its steps send on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from recourse.cli.api import Api, ApiError, segment
from recourse.cli.command import LOCAL, ApiUrl, AsJson, Token, connected, err, out
from recourse.cli.json_output import print_json
from recourse.cli.timeline import event_of
from recourse.declare.ids import Traceparent
from recourse.events import Event

MOST_PAGES = 20
"""Pages of a webhook's log that are looked through for a saga's deliveries."""
_STYLES = {
    **dict.fromkeys(("DONE", "SUCCEEDED", "delivered"), "green"),
    **dict.fromkeys(("FAILED", "UNDO_FAILED", "COMPENSATION_FAILED", "given-up", "failed"), "red"),
    **dict.fromkeys(("UNDONE", "UNDOING", "COMPENSATED", "COMPENSATING"), "yellow"),
}


@dataclass(kw_only=True)
class Span:
    """A part of a trace.

    Attributes:
        name: The saga's name, or the step's.
        side: `saga`, `action` or `undo`.
        status: As the API calls it.
        span_id: Its id; None where an earlier release has started the saga.
        parent_id: That of the span that it is in.
        started_at: When it began, where that is known.
        ended_at: When it ended; None until then.
        attempts: How often it was tried.
        error: Why it failed: `type` and `message`.
        events: What happened in it, in order, each with its `deliveries`.
        spans: Those in it.
    """

    name: str
    side: str
    status: str
    span_id: str | None
    parent_id: str | None
    started_at: str | None
    ended_at: str | None
    attempts: int = 1
    error: Mapping[str, str] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        """How long it took, if it has ended."""
        return _between(self.started_at, self.ended_at)

    def view(self) -> dict[str, Any]:
        """The span as `--json` shows it."""
        return {
            **self.__dict__,
            "seconds": self.seconds,
            "spans": [one.view() for one in self.spans],
        }


def trace(
    saga_id: Annotated[str, typer.Argument(help="The saga's id.")],
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Show a saga's trace: its steps and undos, events and deliveries, with times and durations.

    Deliveries are those to your own webhooks, as far as their log goes back.

    Example: recourse trace 914d778eba9db48da737e287d928ea3d
    """
    with connected(api, token) as client:
        saga = client.get(f"/sagas/{segment(saga_id)}")
        items = client.get(f"/sagas/{segment(saga_id)}/events")["items"]
        events = [event_of(one) for one in items]
        root = tree(saga, events, deliveries(client, events))
    begun = Traceparent.sent(saga.get("traceparent"))
    trace_id = begun and begun.trace_id
    if as_json:
        about = {"saga_id": saga["saga_id"], "trace_id": trace_id, "trace": root.view()}
        print_json(about)
        return
    out.print(f"saga {saga['saga_id']}, trace {trace_id or 'none: an earlier release started it'}")
    if root.parent_id:
        out.print(f"called in span {root.parent_id}")
    for line in _lines(root, root.started_at):
        out.print(line)


def tree(
    saga: Mapping[str, Any],
    events: Sequence[Event],
    delivered: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Span:
    """The spans of a saga's trace.

    Args:
        saga: The saga as the API shows it.
        events: Its events, in order.
        delivered: The attempts to deliver each, by its id.
    """
    begun = Traceparent.sent(saga.get("traceparent"))

    def span_id(*of: str) -> str | None:
        return begun and begun.at(saga["saga_id"], *of).span_id

    own = span_id()
    root = Span(
        name=saga["saga"],
        side="saga",
        status=saga["status"],
        span_id=own,
        parent_id=begun.span_id if begun and begun.span_id != own else None,
        started_at=saga["started_at"],
        ended_at=saga["ended_at"],
    )
    said: dict[tuple[str | None, str], list[Event]] = defaultdict(list)
    for event in events:
        said[event.step, _side(event)].append(event)
    root.events = [_shown(event, delivered) for event in said[None, "saga"]]
    for step in saga["steps"]:
        for side in ("action", "undo"):
            theirs = said[step["name"], side]
            if theirs or _is_under_way(step, side):
                made = _span(step, side, theirs, span_id(step["name"], side), own)
                made.events = [_shown(event, delivered) for event in theirs]
                root.spans.append(made)
    root.spans.sort(key=lambda one: one.started_at or one.ended_at or "9")
    return root


def _span(
    step: Mapping[str, Any], side: str, said: Sequence[Event], own: str | None, parent: str | None
) -> Span:
    """The action or the undo of a step, by what was said of it last."""
    last = said[-1] if said else None
    open_since = step["started_at"] if side == "action" else None
    entered = next((one.entered_at for one in reversed(said) if one.entered_at), None)
    began = entered or open_since
    ended = last.time if last and not _is_under_way(step, side) else None
    if began and ended and began > ended:
        began = ended  # two clocks have told them: a queue's and a function's
    tries = step["attempts" if side == "action" else "undo_attempts"]
    return Span(
        name=step["name"],
        side=side,
        status=_status(last) if last and ended else step["status"],
        span_id=own,
        parent_id=parent,
        started_at=began,
        ended_at=ended,
        attempts=max([tries, *(one.attempts for one in said)]),
        error=dict(last.error) if last and last.error else None,
    )


def _status(event: Event) -> str:
    return "SKIPPED" if event.outcome == "skipped" else event.kind.upper()


def _side(event: Event) -> str:
    if event.step is None:
        return "saga"
    return "undo" if event.kind in ("undone", "undo_failed") else "action"


def _is_under_way(step: Mapping[str, Any], side: str) -> bool:
    if side == "action" and "begins_at" in step:
        return True  # it is not due
    return bool(step["status"] == ("RUNNING" if side == "action" else "UNDOING"))


def _shown(event: Event, delivered: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    about = {"id": event.id, "type": event.type, "time": event.time, "sequence": event.sequence}
    return about | {"run": event.run, "deliveries": list(delivered.get(event.id, ()))}


def deliveries(client: Api, events: Sequence[Event]) -> Mapping[str, list[dict[str, Any]]]:
    """The attempts to deliver events to the caller's webhooks, the first one first, by event.

    Args:
        client: The API.
        events: The events, the oldest first.
    """
    found: dict[str, list[dict[str, Any]]] = {event.id: [] for event in events}
    try:
        webhooks = client.get("/webhooks")["items"] if events else []
    except ApiError as problem:
        if problem.status not in (403, 404):
            raise
        webhooks = []  # the API has none, or the token may not see them
    for webhook in webhooks:
        name = webhook["webhook_id"]
        for attempt in _attempts(client, name, events[0].time):
            if attempt["event_id"] in found:
                found[attempt["event_id"]].append({"webhook_id": name, **attempt})
    return {event: sorted(made, key=lambda one: str(one["at"])) for event, made in found.items()}


def _attempts(client: Api, webhook: str, since: str) -> Iterator[Mapping[str, Any]]:
    """A webhook's attempts since a moment, the newest first."""
    cursor = None
    for _ in range(MOST_PAGES):
        page = client.get(f"/webhooks/{segment(webhook)}/deliveries", cursor=cursor, limit=100)
        yield from page["items"]
        cursor = page["cursor"]
        if cursor is None or any(str(one["at"]) < since for one in page["items"]):
            return
    err.print(f"webhook {webhook}: only its latest {MOST_PAGES * 100} attempts were looked at")


# As lines.


def _lines(span: Span, begun: str | None, lead: str = "", below: str = "") -> Iterator[Text]:
    """A span and all that is in it, a line each."""
    yield _line(lead, _title(span, begun), span.status)
    inner: list[Span | dict[str, Any]] = [*span.events, *span.spans]
    inner.sort(key=_begins)
    for count, one in enumerate(inner, 1):
        branch, rest = ("└─ ", "   ") if count == len(inner) else ("├─ ", "│  ")
        if isinstance(one, Span):
            yield from _lines(one, begun, below + branch, below + rest)
            continue
        what = one["type"].rpartition(".")[2]
        run = f", recovery {one['run']}" if one["run"] else ""
        yield _line(below + branch, f"event {what} at {_at(begun, one['time'])}{run}")
        for number, attempt in enumerate(one["deliveries"], 1):
            lead = below + rest + ("└─ " if number == len(one["deliveries"]) else "├─ ")
            yield _line(lead, _delivery(attempt, begun), attempt["outcome"])


def _line(lead: str, text: str, status: str = "") -> Text:
    line = Text(lead, "bright_black")
    return line.append(text, _STYLES.get(status, ""))


def _begins(one: Span | Mapping[str, Any]) -> str:
    found = (one.started_at or one.ended_at) if isinstance(one, Span) else one["time"]
    return found or "9"


def _title(span: Span, begun: str | None) -> str:
    name = span.name if span.side != "undo" else f"undo of {span.name}"
    parts = [f"{name} {span.status}", f"at {_at(begun, span.started_at)}"]
    if span.seconds is not None:
        parts.append(f"{span.seconds:.3f} s")
    if span.attempts > 1:
        parts.append(f"{span.attempts} attempts")
    if span.span_id:
        parts.append(f"span {span.span_id}")
    if span.error:
        parts.append(f"{span.error.get('type')}: {span.error.get('message')}")
    return ", ".join(parts)


def _delivery(attempt: Mapping[str, Any], begun: str | None) -> str:
    answer = attempt["error"] or f"status {attempt['status']}"
    replay = ", a replay" if attempt["replay_id"] else ""
    return (
        f"webhook {attempt['webhook_id']} {attempt['outcome']} at {_at(begun, attempt['at'])}, "
        f"{attempt['latency_ms']} ms, attempt {attempt['attempt']}, {answer}{replay}"
    )


def _at(begun: str | None, moment: str | None) -> str:
    """A moment, from the start of the saga on."""
    since = _between(begun, moment)
    return "an unknown time" if since is None else f"{since:.3f} s"


def _between(begun: str | None, ended: str | None) -> float | None:
    try:
        took = datetime.fromisoformat(ended or "") - datetime.fromisoformat(begun or "")
    except (ValueError, TypeError):  # not there, no time, or one without its zone
        return None
    return round(took.total_seconds(), 3)
