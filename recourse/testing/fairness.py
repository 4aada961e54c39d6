"""A model of our own of SQS's fair queues, for the emulators have none.

What AWS says of them: where one message group has far more messages in flight than others, SQS
delivers the messages of the others first; it does not hold back the large group where nothing else
waits, nor keep an order. Whose share is too large is AWS's to decide, and not published.

The model: the group with the most messages in the queue comes last, the one with the fewest first;
messages without a group are a group each, for SQS knows no neighbour of theirs. Messages of groups
of one size stay as they are, so a seed that has shuffled them decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

M = TypeVar("M")


def order(messages: list[M], group: Callable[[M], str | None]) -> None:
    """Order the messages of a queue as they are delivered.

    Args:
        messages: All that it has, visible or not; they are ordered in place.
        group: The message group of one; None where it has none.
    """
    counts = Counter(group(one) for one in messages)
    messages.sort(key=lambda one: 1 if group(one) is None else counts[group(one)])
