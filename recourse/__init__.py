"""Distributed transactions that can be trusted on AWS serverless: each step has its undo.

::

    from recourse import Call, Decision, Refusal, Saga, Step, action, undo

What is named here is the public face; it is imported when it is first asked for, so a step's
function loads what it uses and no more. Everything else lives in rooms, each of which says in its
docstring what is in it and what may be touched. They import in this order alone::

    errors
    declare                        Saga, Step, Action, Undo, Confirm, Money
    store                          one table; clients of AWS
    events                         the event, the outbox, the relay
    run, ledger                    the barrier and the step runner; the read model of sagas
    queues                         messages, inbox, dead letters, the worker
    orchestration, choreography    state machines and the sweeper; routing and the listener
    feed                           the feed and its live channels
    valet, webhooks                documents by valet key; events to other people's servers
    erasure                        one person's data, erased on request
    functions                      the handlers that AWS calls
    cdk                            constructs: alone they know the CDK
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recourse.declare.declaration import Step as Step
    from recourse.declare.declaration import Together as Together
    from recourse.declare.ids import SagaId as SagaId
    from recourse.declare.moments import Moment as Moment
    from recourse.declare.money import CurrencyMismatchError as CurrencyMismatchError
    from recourse.declare.money import Money as Money
    from recourse.declare.request import Checked as Checked
    from recourse.declare.request import request_model as request_model
    from recourse.declare.saga import Saga as Saga
    from recourse.declare.saga import collect as collect
    from recourse.declare.shape import Retry as Retry
    from recourse.declare.step import AtLeast as AtLeast
    from recourse.declare.step import Call as Call
    from recourse.declare.step import Decision as Decision
    from recourse.declare.step import Document as Document
    from recourse.declare.step import Item as Item
    from recourse.declare.step import Put as Put
    from recourse.declare.step import Update as Update
    from recourse.declare.step import action as action
    from recourse.declare.step import confirm as confirm
    from recourse.declare.step import undo as undo
    from recourse.declare.tables import ExistingTable as ExistingTable
    from recourse.declare.wait import Answer as Answer
    from recourse.declare.wait import Question as Question
    from recourse.declare.wait import Refused as Refused
    from recourse.declare.wait import Wait as Wait
    from recourse.errors import ContentionError as ContentionError
    from recourse.errors import DeclarationError as DeclarationError
    from recourse.errors import PoisonError as PoisonError
    from recourse.errors import RecourseError as RecourseError
    from recourse.errors import Refusal as Refusal
    from recourse.errors import TransientError as TransientError
    from recourse.events.event import Event as Event
    from recourse.queues.consumer import Consumer as Consumer
    from recourse.queues.consumer import Subscriber as Subscriber
    from recourse.queues.inbox import Inbox as Inbox
    from recourse.queues.message import Message as Message

_ROOMS = {
    "declare.declaration": ("Step", "Together"),
    "declare.shape": ("Retry",),
    "declare.ids": ("SagaId",),
    "declare.moments": ("Moment",),
    "declare.money": ("CurrencyMismatchError", "Money"),
    "declare.request": ("Checked", "request_model"),
    "declare.saga": ("Saga", "collect"),
    "declare.step": (
        "AtLeast",
        "Call",
        "Decision",
        "Document",
        "Item",
        "Put",
        "Update",
        "action",
        "confirm",
        "undo",
    ),
    "declare.tables": ("ExistingTable",),
    "declare.wait": ("Answer", "Question", "Refused", "Wait"),
    "errors": (
        "ContentionError",
        "DeclarationError",
        "PoisonError",
        "RecourseError",
        "Refusal",
        "TransientError",
    ),
    "events.event": ("Event",),
    "queues.consumer": ("Consumer", "Subscriber"),
    "queues.inbox": ("Inbox",),
    "queues.message": ("Message",),
}
_WHERE = {name: module for module, names in _ROOMS.items() for name in names}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> object:
    """What is named above, imported when it is first asked for (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
