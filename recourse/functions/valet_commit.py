"""Commits uploads on S3's events, and aborts multipart uploads that can no longer be completed.

The API's `complete` commits as well, at once; whichever comes first decides.
"""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger

from recourse.functions import kit
from recourse.valet.commit import S3_EVENT
from recourse.valet.errors import ValetError

logger = Logger()


def handler(event: dict[str, Any], context: Any) -> None:
    """Handle one event: an object was created, or an hour has passed."""
    if event["detail-type"] == "Object Created":
        key_id = event["detail"]["object"]["key"].rpartition("/")[2]
        try:
            kit.valet_committer().complete(key_id, S3_EVENT)
        except ValetError as refusal:
            # The refusal is final and in the audit trail; a retry would change nothing.
            logger.warning("not committed", extra={"key_id": key_id, "refusal": refusal.kind})
    else:
        swept = kit.valet_committer().sweep()
        logger.info("swept", extra={"keys": swept})
