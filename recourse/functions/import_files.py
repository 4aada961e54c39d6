"""The function that reads and writes the files of imports, which their state machine calls."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger

from recourse.functions import kit
from recourse.imports.check import batches_key
from recourse.imports.machine import reason

logger = Logger()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
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
        "recorded": found.sagas_started + found.already_there,
        "key": batches_key(import_id),
    }
