"""The relays' function: called with batches of the streams of tables, or of the feed."""

from __future__ import annotations

from functools import partial
from typing import Any

from aws_lambda_powertools import Logger

from recourse.events.relay import relay
from recourse.functions import settings
from recourse.queues.sources import dead_letter_record
from recourse.store.aws import client

logger = Logger()


def handler(event: dict[str, Any], context: object) -> None:
    """Publish the events of new rows; raise where that failed, for the stream to retry."""
    lost = partial(dead_letter_record, partial(client, "sqs"), settings.required("LOST_URL"))
    count = relay(client("sns"), settings.required("TOPIC_ARN"), event["Records"], lost)
    logger.info("relayed", extra={"events": count})
