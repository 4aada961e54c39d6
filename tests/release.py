"""A release of the library at its work: `python release.py`, in the folder of an app.

It takes what another release has left, does one thing, and hands over what there is then. Requests
and answers are lines of JSON. While it runs a state machine it asks, at each task, who does that:
another release, or itself.
It runs under releases other than the one it is of, so it uses of them only what is public.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from moto.dynamodb.models import dynamodb_backends
from moto.sqs.models import sqs_backends
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from recourse.project import Project
from recourse.testing.ground import Ground, ground

ACCOUNT, REGION = "123456789012", "us-east-1"


def resume(made: Ground, left: dict[str, Any]) -> None:
    """Have the rows and the messages that were left, and nothing else."""
    made.wipe()
    for table, rows in left["rows"].items():
        for row in rows:
            dynamodb_backends[ACCOUNT][REGION].put_item(table, row)
    made.stream.fetch()  # these rows have been relayed
    for queue, messages in left["messages"].items():
        for text, receives in messages:
            made.sqs.send_message(QueueUrl=made.queues[queue], MessageBody=text)
            messages_of(queue)[-1].approximate_receive_count = receives


def leave(made: Ground) -> dict[str, Any]:
    """Every row, and every message by its queue, once all outboxes are relayed.

    Of a message: its text, and how often it was received.
    """
    while made.relay():
        pass
    rows = {
        name: [item.to_json()["Attributes"] for item in table.all_items()]
        for name, table in dynamodb_backends[ACCOUNT][REGION].tables.items()
    }
    messages = {
        queue: [(one.body, one.approximate_receive_count) for one in messages_of(queue)]
        for queue in made.queues
    }
    return {"rows": rows, "messages": messages}


def messages_of(queue: str) -> list[Any]:
    found: list[Any] = sqs_backends[ACCOUNT][REGION].queues[queue]._messages
    return found


def ask(made: Ground, function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
    """Have another release do a task of a machine that runs here; or do it, if told to."""
    if "carried" in task:
        return run()
    asking = made.mishap
    say({"function": function, "task": task, "left": leave(made)})
    said = json.loads(sys.stdin.readline())
    if not said:
        return run()
    machines = stepfunctions_parser_backends[ACCOUNT][REGION].state_machines
    runs = [list(machine.executions) for machine in machines]
    resume(made, said["left"])
    for machine, own in zip(machines, runs, strict=True):
        machine.executions[:] = own
    made.mishap = asking
    return answered(said["answer"])


def own(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
    """Do a task oneself."""
    return run()


def answered(answer: dict[str, Any]) -> Any:
    """What another release's function has returned or raised."""
    if "error" not in answer:
        return answer["result"]
    name, text = answer["error"]
    raise TimeoutError if name == "TimeoutError" else type(name, (Exception,), {})(text)


def perform(made: Ground, function: str, task: dict[str, Any]) -> dict[str, Any]:
    """What a function returns or raises."""
    try:
        return {"result": made.functions[function](task)}
    except Exception as problem:
        return {"error": [type(problem).__name__, str(problem)]}


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    """Answer until there are no more requests."""
    made: Ground
    with ground(Project.find().declared(), Ground) as made:
        for line in sys.stdin:
            asked = json.loads(line)
            resume(made, asked["left"])
            made.mishap = partial(ask, made)
            match asked["do"]:
                case "start":
                    answer: Any = made.start(**asked["with"])
                case "deliver":
                    made.deliver(**asked["with"])
                    answer = made.dead_lettered(**asked["with"])
                case "sweep":
                    answer = made.sweep(**asked["with"])
                case "perform":
                    made.mishap = own
                    answer = perform(made, **asked["with"])
                case "view":
                    answer = made.view(**asked["with"])
            say({"answer": answer, "left": leave(made)})


if __name__ == "__main__":
    main()
