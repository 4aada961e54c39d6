"""The subscribers, a file each: what it hears and may do, its rules and its handler."""

from recourse.consumer import Subscriber, declared


def subscribers() -> dict[str, Subscriber]:
    """Every subscriber there is, by the name of its module."""
    return declared(__name__, Subscriber)
