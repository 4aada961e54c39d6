"""What queues that follow from the declarations are called, by operators and in SQS.

The constructs make these queues, and functions find them by the same names: a list of them all
would outgrow a function's environment.
"""

from __future__ import annotations

from collections.abc import Iterable

from recourse.declare.saga import Saga
from recourse.queues.deadletters import deadletters_of


def steps_queues(sagas: Iterable[Saga]) -> list[str]:
    """The queue of each step of a choreography, called as the function that serves it."""
    return sorted({step.function for saga in sagas for step in saga.all})


def confirmer(service: str) -> str:
    """The queue, and the function, that confirms a service's holds."""
    return f"{service.title()}Confirm"


def confirmers(sagas: Iterable[Saga]) -> list[str]:
    """Those of every service that confirms."""
    return sorted({confirmer(one.service) for saga in sagas for one in saga.all if one.confirm})


def redriven_queues(sagas: Iterable[Saga], *, choreography: bool) -> list[str]:
    """The queues that sagas bring, whose dead letters go back to them."""
    sagas = list(sagas)
    return [*(steps_queues(sagas) if choreography else ()), *confirmers(sagas)]


def operators_queues(sagas: Iterable[Saga], *, choreography: bool) -> list[str]:
    """The queues whose messages ask an operator to act on a saga that is not at rest.

    Dead-letter queues of consumers that act on a saga's end are not among them: their messages
    must be processed although the saga is at rest.
    """
    lost = [*(steps_queues(sagas) if choreography else ()), "Ledger", "Parked", "Sweeper"]
    return ["Parked", *(deadletters_of(name) for name in lost)]
