"""Whether one more saga of an owner may begin now: so many a minute, and so many in flight.

The number a minute is exact however many begin at once: each is a conditional write. How many are
in flight is counted in an index of the ledger, so it is what the ledger says, and nothing has to be
released; it may be exceeded by what begins while the index is behind, which the rate bounds.

Operators are not limited, nor is what recovers or goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from recourse.errors import RecourseError, TransientError
from recourse.functions import kit
from recourse.functions.caller import Caller
from recourse.functions.limits import has_count_in_flight, limit
from recourse.ledger.record import Record
from recourse.store.slots import LimitReachedError


def begin(
    who: Caller, start: Callable[[], tuple[Record, bool]], is_there: Callable[[], bool]
) -> Record:
    """Begin a saga, unless its owner has reached a limit.

    One that is there already is answered as before, whatever the limits, and not counted.

    Args:
        who: Who starts it, and will own it.
        start: Records the start; returns the saga, and whether it is new.
        is_there: Whether the saga is there; asked only where a limit is reached.

    Raises:
        LimitReachedError: The owner has reached a limit; nothing was recorded.
    """
    if who.is_operator:
        return start()[0]
    rate = kit.start_rate()
    try:
        _check_in_flight(who.subject)
        rate.count(who.subject)
    except LimitReachedError:
        if is_there():
            return start()[0]
        raise
    try:
        record, is_new = start()
    except RecourseError as problem:
        if not isinstance(problem, TransientError):  # else it may have begun
            rate.take_back(who.subject)
        raise
    if not is_new:
        rate.take_back(who.subject)
    return record


def _check_in_flight(owner: str) -> None:
    if not has_count_in_flight():
        return
    most = limit("in_flight")
    if kit.ledger().queries.in_flight(owner, most.most) >= most.most:
        raise LimitReachedError(
            "limit-reached",
            f"an owner may have {most.most} {most.what}",
            retry_after=most.seconds,
        )
