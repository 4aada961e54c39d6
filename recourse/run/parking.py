"""Parking: a saga that needs an operator stops, with an event for each step that is stuck."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from recourse.declare.ids import Traceparent
from recourse.declare.shape import AnyStep, Shape
from recourse.events import Event, outbox_row
from recourse.run.failures import own_failure, passes, understand
from recourse.run.task import number_of
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


def park(
    dynamodb: DynamoDBClient,
    table: str,
    shape: Shape[Any],
    task: Mapping[str, Any],
    timescale: float,
    refusals: Mapping[str, Collection[str]],
) -> list[str]:
    """Record an event for every step that is stuck.

    Args:
        dynamodb: A DynamoDB client.
        table: The table of whose outbox they become rows: the ledger's, or the step's own.
        shape: The shape that the saga began with.
        task: `saga` as in every task, `parked`: what was caught of what is stuck, and `failure`:
            what was caught of the actions before, both by step or group; `carried` in a
            choreography, where the undos before a stuck one go on by this event; and `attempt`
            there, the tries before the last.
        timescale: What time-outs are multiplied by.
        refusals: The names of the refusals that actions may raise by now, by `Step.function`.

    Returns:
        The types of the events.
    """
    events = list(_events(shape, task, timescale, refusals))
    outbox, owner = Table(dynamodb, table), task["saga"]["owner"]
    outbox.transact([outbox.put_request(outbox_row(event, owner)) for event in events])
    return [event.type for event in events]


def _events(
    shape: Shape[Any],
    task: Mapping[str, Any],
    timescale: float,
    refusals: Mapping[str, Collection[str]],
) -> Iterator[Event]:
    run = task["saga"]
    trace = Traceparent.sent(run.get("traceparent"))
    for caught_by, caught in task["parked"].items():
        name = caught_by if caught_by in shape.by_name else caught["Error"]
        failure = own_failure(name, task["parked"]) or caught
        step = shape.by_name[name]
        undone = shape.role(name) == "compensable"
        why = own_failure(name, task["failure"]) if undone else None
        # A refusal is recorded by the step's marker, with its event; any other failure would have
        # been by the undo, which did not come to it. What the newest code refuses has its names.
        if why and why["Error"] not in step.refusals.union(refusals.get(step.function, ())):
            acted = shape.retry(step).attempts if passes(why) else 1
            yield Event.of_step(
                run["id"],
                shape.name,
                name,
                "failed",
                run=number_of(run),
                attempts=acted + run["attempts"].get(name, 0),
                error=understand(why, step.timeout * timescale),
                trace=trace,
            )
        target = f"{name}.undo" if undone else name
        tries = task.get("attempt", _tries(shape, step, failure) - 1) + 1
        yield Event.parked(
            run["id"],
            shape.name,
            name,
            "undo_failed" if undone else "failed",
            run=number_of(run),
            attempts=tries + run["attempts"].get(target, 0),
            error=understand(failure, step.timeout * timescale),
            claimed=bool(run["recover"]),
            carried=task.get("carried"),
            trace=trace,
        )


def _tries(shape: Shape[Any], step: AnyStep, failure: Mapping[str, str]) -> int:
    """How often a state machine has tried what is stuck, in this run."""
    return (shape.patience(step) if passes(failure) else shape.retry(step)).attempts
