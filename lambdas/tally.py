"""The consumer that counts sagas; `handle` also serves `recourse worker`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from recourse.events import Event
from recourse.functions import kit, settings
from recourse.functions.batch import handle_each
from recourse.queues.message import Message
from recourse.tally import Tally

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@cache
def tally() -> Tally:
    """The tally."""
    return Tally(kit.dynamodb(), settings.required("TALLY_TABLE"))


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Count the events of a batch, and say which messages have to come again."""
    return handle_each(handle, event["Records"], kit.queue, context)


def handle(message: Message) -> None:
    """Count the event that a message is.

    Raises:
        UnreadableError: It is no event of a saga.
        TransientError: It could not be counted now.
    """
    tally().count(Event.parse(message.body, kit.sagas()))
