"""What must be true of every saga, whoever wrote it: its status is what its effects are.

Each function answers with what is wrong, in sentences; with nothing where all is well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recourse.declare.saga import Saga
from recourse.ledger.history import AT_REST
from recourse.queues.deadletters import SUFFIX
from recourse.testing.ground import Ground

Rows = Mapping[tuple[str, str], Mapping[str, Any]]
"""Business rows by table and key."""
Figures = Mapping[tuple[str, str, str], int]
"""Whole numbers by table, key and attribute."""
ENDS = ("succeeded", "compensated")


def of_saga(ground: Ground, saga: Saga, saga_id: str) -> Iterator[str]:
    """What is wrong with a saga at rest: do its markers, the effects, agree with its status?"""
    view = ground.view(saga_id)
    status = view["status"]
    record = ground.ledger.get(saga_id)
    assert record is not None
    if status not in AT_REST:
        yield f"it is {status}: neither at rest nor parked for an operator"
        return
    if record.waiting:
        yield "an event still waits for the events that caused it"
    shown = {step["name"]: step["status"] for step in view["steps"]}
    pivot = _outcome(ground, saga_id, saga, saga.pivot.name, "action")
    for step in saga.all:
        acted = _outcome(ground, saga_id, saga, step.name, "action")
        undone = _outcome(ground, saga_id, saga, step.name, "undo")
        if saga.left_out(step, record.request):
            if acted or undone:
                yield f"step {step.name!r} acted, and the request leaves it out"
        elif status == "SUCCEEDED":
            if acted not in ("done", "skipped") or undone:
                yield f"it SUCCEEDED, and step {step.name!r} is {undone or acted or 'not done'}"
        elif acted == "done" and undone not in ("done", "skipped"):
            yield f"it is COMPENSATED, and step {step.name!r} is done and not undone"
        elif acted == "done" and shown[step.name] not in ("UNDONE", "SKIPPED"):
            yield f"step {step.name!r} is undone, and shown as {shown[step.name]}"
    if status == "COMPENSATED" and pivot == "done":
        yield f"it is COMPENSATED after its pivot {saga.pivot.name!r}"
    told = [event.kind for event in record.entered]
    if told[-1] != status.lower() or sum(told.count(end) for end in ENDS) != 1:
        yield f"its events must end with {status.lower()!r}, once, got {told}"
    ids = [event.id for event in record.entered]
    if len(ids) != len(set(ids)):
        yield "an event has entered twice"


def of_ground(ground: Ground) -> Iterator[str]:
    """What is wrong with the queues once all is quiet."""
    for name, queue in ground._backend.items():
        if name.endswith(SUFFIX) and queue._messages:
            body = queue._messages[0].body
            yield f"{len(queue._messages)} messages are dead-lettered in {name!r}: {body:.200}"


def figures(rows: Rows, but: frozenset[str]) -> dict[tuple[str, str, str], int]:
    """The whole numbers of rows, those within others too."""
    found: dict[tuple[str, str, str], int] = {}

    def look(table: str, key: str, path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                if name not in but:
                    look(table, key, f"{path}.{name}" if path else name, inner)
        elif type(value) is int:
            found[table, key, path] = value

    for (table, key), row in rows.items():
        look(table, key, "", row)
    return found


def of_stock(
    before: Rows, after: Rows, expected: Figures, *, undone: bool, but: frozenset[str]
) -> Iterator[str]:
    """What is wrong with the rows that were there before the sagas.

    Args:
        before: All rows before them.
        after: All rows after them.
        expected: By how much each number must have changed: what the sagas that succeeded do to it
            when nothing disturbs them.
        undone: Every saga was undone, so nothing else may have changed either.
        but: Attributes that may change.
    """
    now = figures(after, but)
    for where, number in figures(before, but).items():
        table, key, name = where
        wanted = number + expected.get(where, 0)
        if now.get(where) != wanted:
            yield (
                f"{name!r} of {key} in {table} must be {wanted}, got {now.get(where)}: before the "
                f"sagas it was {number}, and the sagas that succeeded change it by "
                f"{expected.get(where, 0)}"
            )
    for place, row in before.items() if undone else ():
        rest = {n: v for n, v in row.items() if n not in but}
        is_now = {n: v for n, v in after.get(place, {}).items() if n not in but}
        for name in sorted(rest.keys() | is_now.keys()):
            had, has = rest.get(name), is_now.get(name)
            # Where there is no number, one is counted from zero, and back.
            is_back = had is None and has == 0 and type(has) is int
            if had != has and type(had) is not int and not is_back:
                yield (
                    f"{name!r} of {place[1]} in {place[0]} must be {had!r} as before, "
                    f"got {has!r}: every saga was undone"
                )


def _outcome(ground: Ground, saga_id: str, saga: Saga, step: str, side: str) -> str | None:
    service = saga.by_name[step].service
    marker = ground.row(service, f"marker#{saga_id}#{step}#{side}")
    return marker["outcome"] if marker else None
