"""The subscribers, one file each: its events, its rights, its rules and its handler."""

from recourse import Subscriber
from recourse.queues.consumer import declared


def subscribers() -> dict[str, Subscriber]:
    """Every subscriber there is, by the name of its module."""
    return declared(__name__, Subscriber)
