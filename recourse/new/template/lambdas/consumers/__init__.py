"""The consumers, one file each: its events, its rights, its rules and its handler."""

from recourse import Consumer
from recourse.queues.consumer import declared


def consumers() -> dict[str, Consumer]:
    """Every consumer there is, by the name of its module."""
    return declared(__name__, Consumer)
