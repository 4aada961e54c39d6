"""Parking: a saga that needs an operator stops, with an event for each step that is stuck."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from recourse.declare.declaration import Step
from recourse.declare.ids import Traceparent
from recourse.declare.saga import Saga
from recourse.events import Event, outbox_row
from recourse.run.failures import own_failure, passes, understand
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


def park(
    dynamodb: DynamoDBClient, table: str, saga: Saga, task: Mapping[str, Any], timescale: float
) -> list[str]:
    """Record an event for every step that is stuck.

    Args:
        dynamodb: A DynamoDB client.
        table: The table of whose outbox they become rows: the ledger's, or the step's own.
        saga: The declaration.
        task: `saga` as in every task, `parked`: what was caught of what is stuck, and `failure`:
            what was caught of the actions before, both by step or group; `carried` in a
            choreography, where the undos before a stuck one go on by this event; and `attempt`
            there, the tries before the last.
        timescale: What time-outs are multiplied by.

    Returns:
        The types of the events.
    """
    events = list(_events(saga, task, timescale))
    outbox = Table(dynamodb, table)
    outbox.transact([outbox.put_request(outbox_row(event)) for event in events])
    return [event.type for event in events]


def _events(saga: Saga, task: Mapping[str, Any], timescale: float) -> Iterator[Event]:
    run = task["saga"]
    trace = Traceparent.sent(run.get("traceparent"))
    for caught_by, caught in task["parked"].items():
        name = caught_by if caught_by in saga.by_name else caught["Error"]
        failure = own_failure(name, task["parked"]) or caught
        step = saga.by_name[name]
        undone = saga.role(name) == "compensable"
        if undone and (why := own_failure(name, task["failure"])) and not _has_refused(step, why):
            # Its undo, which did not come to it, would have recorded this.
            acted = saga.retry(step).attempts if passes(why) else 1
            yield Event.of_step(
                run["id"],
                saga.name,
                name,
                "failed",
                run=run["recover"],
                attempts=acted + run["attempts"].get(name, 0),
                error=understand(why, step.timeout * timescale),
                trace=trace,
            )
        target = f"{name}.undo" if undone else name
        tries = task.get("attempt", _tries(saga, step, failure) - 1) + 1
        yield Event.parked(
            run["id"],
            saga.name,
            name,
            "undo_failed" if undone else "failed",
            run=run["recover"],
            attempts=tries + run["attempts"].get(target, 0),
            error=understand(failure, step.timeout * timescale),
            claimed=bool(run["recover"]),
            carried=task.get("carried"),
            trace=trace,
        )


def _has_refused(step: Step, failure: Mapping[str, str]) -> bool:
    """Whether a failure is a refusal, which the step's marker has recorded with its event."""
    return failure["Error"] in {kind.__name__ for kind in step.action.refuses}


def _tries(saga: Saga, step: Step, failure: Mapping[str, str]) -> int:
    """How often a state machine has tried what is stuck, in this run."""
    return (saga.patience(step) if passes(failure) else saga.retry(step)).attempts
