"""Imports on the ground: their real functions and machine, but for the Distributed Map.

moto reads no JSON Lines and has no tolerated failures, so that loops stand in the place of these
two states (`DistributedMap`, `Beginnings`). All else of the machine is run by moto's interpreter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from recourse.errors import TransientError
from recourse.imports import machine
from recourse.imports.table import BY_OWNER, Imports
from recourse.testing import handlers
from recourse.testing.ground import Ground

TABLE = "imports"
TRIES = 3


@dataclass(frozen=True)
class DistributedMap:
    """A loop that stands for a Distributed Map over JSON Lines in S3.

    Attributes:
        s3: Where the items are.
        bucket: The bucket.
        item: The function that is called for each; once more with a `failure` where it has failed
            as often as it is tried, unless by an error that stops the map. What that call fails
            with is passed over, as by the machine.
    """

    s3: Any
    bucket: str
    item: Callable[[dict[str, Any]], Any]

    def __call__(self, given: dict[str, Any]) -> None:
        """Call the function for each item, so many at once as are asked for.

        Raises:
            Exception: What an item raised that stops the map; none is begun after it.
        """
        with ThreadPoolExecutor(given["concurrency"]) as pool:
            waiting = []
            for task in _tasks(self.s3, self.bucket, given, "start"):
                waiting.append(pool.submit(self._one, task))
                if len(waiting) == given["concurrency"]:
                    waiting.pop(0).result()
            for one in waiting:
                one.result()

    def _one(self, task: dict[str, Any]) -> None:
        failure = self._failure(task)
        if failure:
            self._failure(task | {"failure": failure})

    def _failure(self, task: dict[str, Any]) -> dict[str, str] | None:
        """Call the function as often as it is tried; with what it has failed, if it has."""
        failure: dict[str, str] | None = None
        for _ in range(TRIES):
            try:
                self.item(task)
                return None
            except Exception as problem:
                if type(problem).__name__ in machine.FINAL:
                    raise
                failure = {"Error": type(problem).__name__, "Cause": str(problem)}
        return failure


@dataclass(frozen=True)
class Beginnings:
    """A loop that stands for the Distributed Map in which the sagas of batches begin.

    Where there is no room for some it does not wait, for nothing would end meanwhile: they are left
    to the sweeper.

    Attributes:
        s3: Where the items are.
        bucket: The bucket.
        item: The function that is called for each; what may pass is passed over.
    """

    s3: Any
    bucket: str
    item: Callable[[dict[str, Any]], Any]

    def __call__(self, given: dict[str, Any]) -> None:
        """Call the function for each item, one after the other."""
        for task in _tasks(self.s3, self.bucket, given, "begin"):
            with suppress(TransientError):
                self.item(task | {"waits": {"seconds": 0}})


def _tasks(s3: Any, bucket: str, given: dict[str, Any], phase: str) -> Iterator[dict[str, Any]]:
    """What a Distributed Map gives to the function for each item."""
    about = {name: given[name] for name in ("import_id", "run")} | {"phase": phase}
    body = s3.get_object(Bucket=bucket, Key=given["key"])["Body"]
    for line in body.iter_lines():
        yield about | {"batch": json.loads(line)}


@contextmanager
def importing(
    ground: Ground, s3: Any, bucket: str, files: handlers.Handler, starts: handlers.Handler
) -> Iterator[tuple[Imports, str]]:
    """The table and the machine of imports on a ground, as long as the block lasts.

    Args:
        ground: The ground.
        s3: An S3 client.
        bucket: The bucket of valet keys.
        files: The function that reads and writes files.
        starts: The function that starts the sagas of a batch.

    Yields:
        The table, and the ARN of the machine.
    """
    ground.dynamodb.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "owner", "started")
        ],
        BillingMode="PAY_PER_REQUEST",
        GlobalSecondaryIndexes=[
            {
                "IndexName": BY_OWNER,
                "KeySchema": [
                    {"AttributeName": "owner", "KeyType": "HASH"},
                    {"AttributeName": "started", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )
    maps: dict[str, handlers.Handler] = {
        machine.MAP: DistributedMap(s3, bucket, starts),
        machine.BEGINNINGS: Beginnings(s3, bucket, starts),
    }
    ground.functions |= {machine.FILES: files, machine.STARTS: starts, **maps}
    defined = machine.definition()
    for name in maps:
        over = defined["States"][name]
        defined["States"][name] = {
            "Type": "Task",
            "Resource": f"${{{name}}}",
            **{part: over[part] for part in ("ResultPath", "Catch", "Next") if part in over},
        }
    text = json.dumps(defined)
    for name in (machine.FILES, machine.STARTS, *maps):
        text = text.replace(f"${{{name}}}", handlers.arn(name))
    made = ground.sfn.create_state_machine(
        name="imports",
        definition=text,
        roleArn=f"arn:aws:iam::{handlers.ACCOUNT}:role/imports",
    )
    yield Imports(ground.dynamodb, TABLE), made["stateMachineArn"]
    ground.dynamodb.delete_table(TableName=TABLE)
    ground.sfn.delete_state_machine(stateMachineArn=made["stateMachineArn"])
