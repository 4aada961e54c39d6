"""The consumers, a file each: what it hears and may do, its rules and its handler."""

from recourse.consumer import Consumer, declared


def consumers() -> dict[str, Consumer]:
    """Every consumer there is, by the name of its module."""
    return declared(__name__, Consumer)
