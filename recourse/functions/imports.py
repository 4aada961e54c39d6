"""The functions of imports, which their state machine calls.

`files` reads and writes files, `starts` starts the sagas of a batch.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from aws_lambda_powertools import Logger

from recourse.declare.limits import cut
from recourse.functions import kit
from recourse.imports.check import batches_key
from recourse.ledger.record import Record

logger = Logger()


def files(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Check the file of an import, or join what became of its rows.

    Args:
        event: The `phase`, `check` or `finish`, and the `import_id`; for the latter also the
            `state` of the machine, which has a `failure` where its map failed.
        context: What Lambda says of the call.

    Returns:
        What the machine goes on with.
    """
    import_id = event["import_id"]
    if event["phase"] == "finish":
        failure = event["state"].get("failure")
        found = kit.import_finisher().finish(import_id, failure and reason(failure))
    else:
        found = kit.import_checker().check(import_id)
    counts = {"rows": found.rows, "bad": found.bad, "started": found.sagas_started}
    counts |= {"already_there": found.already_there, "not_started": found.not_started}
    logger.info(found.status, extra={"import_id": import_id, "saga": found.saga, **counts})
    return {
        "import_id": import_id,
        "run": found.run,
        "status": found.status,
        "batches": found.batches,
        "concurrency": found.concurrency,
        "key": batches_key(import_id),
    }


def starts(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Start the sagas of a batch; where it has failed as often as it is tried, note that.

    What is returned is kept by the Distributed Map for each of its items: nothing.
    """
    import_id, number = event["import_id"], event["batch"]["number"]
    if failure := event.get("failure"):
        event = event | {"error": reason(failure)}
        about = {"import_id": import_id, "batch": number, "reason": event["error"]}
        logger.error("a batch is given up", extra=about)
    kit.import_starter(left_to_sweeper).start(event)
    return {}


def left_to_sweeper(record: Record, problem: Exception) -> None:
    """Log that a saga is recorded and its run is not started."""
    logger.warning("not started: left to the sweeper: %s", problem, extra=record.log_fields)


def reason(failure: dict[str, str]) -> str:
    """Why a state has failed, in words, from what its machine has caught."""
    cause = failure.get("Cause", "")
    with suppress(ValueError, KeyError, TypeError):  # else it is words already
        cause = json.loads(cause)["errorMessage"]
    return cut(f"{failure['Error']}: {cause}".removesuffix(": "))
