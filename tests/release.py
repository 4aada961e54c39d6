"""A release of the library at its work: `python release.py`, in the folder of an app.

It takes what another release has left, does one thing, and hands over what there is then. Requests
and answers are lines of JSON.
It runs under releases other than the one it is of, so it uses of them only what is public.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from recourse.project import Project
from recourse.testing.ground import Ground, ground


def resume(made: Ground, left: dict[str, Any]) -> None:
    """Have the rows and the messages that were left, and nothing else."""
    made.wipe()
    for table, rows in left["rows"].items():
        for row in rows:
            made.dynamodb.put_item(TableName=table, Item=row)
    made.stream.fetch()  # these rows have been relayed
    for queue, messages in left["messages"].items():
        for text in messages:
            made.sqs.send_message(QueueUrl=made.queues[queue], MessageBody=text)


def leave(made: Ground) -> dict[str, Any]:
    """Every row, and every message by its queue, once all outboxes are relayed."""
    while made.relay():
        pass
    rows = {
        table: made.dynamodb.scan(TableName=table)["Items"]
        for table in made.dynamodb.list_tables()["TableNames"]
    }
    messages: dict[str, list[str]] = {queue: [] for queue in made.queues}
    while waiting := [queue for queue in made.queues if made.waiting(queue)] or made.pass_time():
        for queue in waiting if isinstance(waiting, list) else ():
            url = made.queues[queue]
            got = made.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
            for one in got.get("Messages", []):
                messages[queue].append(one["Body"])
                made.sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
    return {"rows": rows, "messages": messages}


def main() -> None:
    """Answer until there are no more requests."""
    made: Ground
    with ground(Project.find().declared()) as made:
        for line in sys.stdin:
            asked = json.loads(line)
            resume(made, asked["left"])
            match asked["do"]:
                case "start":
                    answer: Any = made.start(**asked["with"])
                case "deliver":
                    made.deliver(**asked["with"])
                    answer = made.dead_lettered(**asked["with"])
                case "view":
                    answer = made.view(**asked["with"])
            print(json.dumps({"answer": answer, "left": leave(made)}), flush=True)


if __name__ == "__main__":
    main()
