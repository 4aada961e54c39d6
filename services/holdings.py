"""The services' holdings that the API shows and operators may put: one line for each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

from annotated_types import Ge, Le, Len
from typing_extensions import TypedDict

from recourse import Checked, Item, Put, Update, request_model
from recourse.declare.money import flaw_of_currency
from recourse.text import LONGEST_SUBJECT, flaw_of_subject
from services import accounts, counted, policies

Currency = Annotated[str, Checked(flaw_of_currency)]
Count = Annotated[int, Ge(0), Le(10**9)]
Amount = Annotated[int, Ge(0), Le(10**15)]
Subject = Annotated[str, Len(1, LONGEST_SUBJECT), Checked(flaw_of_subject)]


@request_model
class Price:
    """An amount of minor units in a currency."""

    amount: Amount
    currency: Currency


@request_model
class CountedBody:
    """How many there are of a counted thing, and what one costs."""

    total: Count
    price: Price


def flaw_of_moment(text: str) -> str | None:
    """Why it is no moment: when something happens, wherever one is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        return "must be a moment with its offset, such as 2026-12-24T18:05:00+05:30"
    return None


@request_model
class FlightBody(CountedBody):
    """Seats, and when the flight departs: from then on they are not taken back."""

    departs_at: Annotated[str, Len(1, 40), Checked(flaw_of_moment)] | None = None


@request_model
class AccountBody:
    """An account's currency, its balance in minor units, and the subject whose alone it is."""

    currency: Currency
    balance: Amount
    owner: Subject | None = None


@request_model
class Cover:
    """Which part of a price a policy covers."""

    percent: Annotated[int, Ge(0), Le(100)]


@request_model
class PolicyBody:
    """What a policy covers, four fifths by default; who decides; and which insurer alone may."""

    covers: Cover | None = None
    decision: Literal["auto", "manual"] = "auto"
    insurer: Subject | None = None


class _Money(TypedDict):
    amount: int
    currency: str


class CountedView(TypedDict):
    """A counted thing: `total` is `available`, `held` and `confirmed` together.

    Of running sagas, `held_by` hold some of it, and `held_since` is when the oldest of these holds
    began. Where many hold it at once, those that began close together count from the first of them.
    """

    id: str
    total: int
    available: int
    held: int
    confirmed: int
    price: _Money
    held_since: str | None
    held_by: int


class FlightView(CountedView):
    """Seats of a flight; without `departs_at` it is not known when it departs."""

    departs_at: NotRequired[str]


class AccountView(TypedDict):
    """An account: its `balance` includes what is held; without an `owner`, anybody may use it.

    `held_by` and `held_since` say how many running sagas hold some of it, and since when.
    """

    id: str
    currency: str
    balance: int
    available: int
    held: int
    held_since: str | None
    held_by: int
    owner: NotRequired[str]


class _Cover(TypedDict):
    percent: int


class PolicyView(TypedDict):
    """A policy: `manual` ones are decided by the `insurer`, or by any where it names none."""

    id: str
    covers: _Cover
    decision: Literal["auto", "manual"]
    insurer: NotRequired[str]


Change = Callable[[str, Item | None, Mapping[str, Any]], Sequence[Put | Update] | None]


class Holding(NamedTuple):
    """A kind of thing that the API shows.

    Attributes:
        service: The service whose table has it.
        noun: The name of one of it, with which its keys begin.
        body: The model of what an operator puts.
        shown: The model of what the API shows.
        show: Makes what the API shows from a row.
        change: Makes the writes for a body, from id and current row; None if what is held forbids
            it.
    """

    service: str
    noun: str
    body: type
    shown: type
    show: Callable[[Item], dict[str, Any]]
    change: Change

    def key(self, thing: str) -> str:
        """The key of a thing of this kind."""
        return f"{self.noun}#{thing}"


def _counted(service: str, noun: str) -> Holding:
    def change(
        thing: str, row: Item | None, body: Mapping[str, Any]
    ) -> Sequence[Put | Update] | None:
        return counted.change(noun, thing, row, body)

    return Holding(service, noun, CountedBody, CountedView, counted.show, change)


def _change_flight(
    flight: str, row: Item | None, body: Mapping[str, Any]
) -> Sequence[Put | Update] | None:
    """As of any counted thing; without a departure in the body it keeps the one that it has."""
    departs = {"departs_at": body["departs_at"]} if body.get("departs_at") else {}
    changed = counted.change("flight", flight, row, body)
    return changed and [
        replace(one, item=one.item | departs)
        if isinstance(one, Put)
        else replace(one, put={**one.put, **departs})
        for one in changed
    ]


def _show_flight(row: Item) -> dict[str, Any]:
    departs = {"departs_at": row["departs_at"]} if "departs_at" in row else {}
    return counted.show(row) | departs


HOLDINGS = {
    "flights": Holding("flights", "flight", FlightBody, FlightView, _show_flight, _change_flight),
    "hotels": _counted("hotels", "hotel"),
    "cars": _counted("cars", "car"),
    "stock": _counted("inventory", "item"),
    "slots": _counted("appointments", "slot"),
    "policies": Holding("claims", "policy", PolicyBody, PolicyView, policies.show, policies.change),
    "accounts": Holding(
        "payments", "account", AccountBody, AccountView, accounts.show, accounts.change
    ),
}
