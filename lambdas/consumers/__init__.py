"""The consumers, a file each: what it hears and may do, its rules and its handler."""

from recourse import Consumer
from recourse.queues.consumer import declared


def consumers() -> dict[str, Consumer]:
    """Every consumer there is, by the name of its module."""
    return declared(__name__, Consumer)
