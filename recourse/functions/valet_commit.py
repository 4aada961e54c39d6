"""Commits uploads that S3 tells of, and aborts those in parts that can no longer be completed.

The API's `complete` does the same at once; whichever comes first decides.
"""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger

from recourse.functions import kit
from recourse.valet.commit import S3_EVENT
from recourse.valet.errors import ValetError

logger = Logger()


def handler(event: dict[str, Any], context: Any) -> None:
    """Take one event: an object that was created, or the hour that has passed."""
    if event["detail-type"] == "Object Created":
        key_id = event["detail"]["object"]["key"].rpartition("/")[2]
        try:
            kit.valet_committer().complete(key_id, S3_EVENT)
        except ValetError as refusal:
            # Decided, and in the audit trail; to try again would change nothing.
            logger.warning("not committed", extra={"key_id": key_id, "refusal": refusal.kind})
    else:
        swept = kit.valet_committer().sweep()
        logger.info("swept", extra={"keys": swept})
