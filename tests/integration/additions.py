"""What the pages' test adds besides what the pages say: a saga whose every name is new.

Its fields, its service and the kind of thing that this holds are like none that there is. It uses
the steps of the page on steps, too.
"""

from __future__ import annotations

CLOAKROOMS = '''
"""Cloakrooms: coats on hooks, for a while; nothing is booked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recourse.declare.request import request_model
from recourse.declare.step import AtLeast, Call, Decision, Item, Put, Update, action, confirm, undo
from recourse.errors import Refusal


@request_model
class Cloakroom:
    """A cloakroom, and how much fits into it."""

    hooks: int


@dataclass(frozen=True, kw_only=True)
class Coat:
    """A coat, and the room that it hangs in."""

    room: str


@dataclass(frozen=True, kw_only=True)
class HangAsk:
    """Which coat to hang."""

    coat: Coat


@dataclass
class Shown:
    """A cloakroom as it is now."""

    id: str
    hooks: int
    free: int


class NoHookError(Refusal):
    """No hook is free, or there is no such room."""


def ticket_key(call: Call) -> str:
    """The key of the ticket for a coat."""
    return f"ticket#{call.saga_id}"


@action(HangAsk, reads=lambda call: [f"room#{call.ask.coat.room}"], refuses=[NoHookError])
def hang(call: Call[HangAsk]) -> Decision:
    """Hang a coat on a hook."""
    room = call.item
    if room is None or room["free"] < 1:
        raise NoHookError("no hook is free")
    return Decision(
        result={"hung": room["id"]},
        writes=[
            Update(room["pk"], add={"free": -1}, when={"free": AtLeast(1)}),
            Put({"pk": ticket_key(call), "room": room["pk"], "state": "HUNG"}),
        ],
    )


@undo(reads=lambda call: [ticket_key(call)])
def give_back(call: Call) -> Decision:
    """Give it back."""
    ticket = call.item
    assert ticket is not None
    return Decision(
        result={},
        writes=[
            Update(ticket["pk"], put={"state": "BACK"}, when={"state": "HUNG"}),
            Update(ticket["room"], add={"free": 1}),
        ],
    )


@confirm(reads=lambda call: [ticket_key(call)])
def guard(call: Call) -> Decision:
    """Guard it."""
    return Decision(
        result={},
        writes=[Update(ticket_key(call), put={"state": "GUARDED"}, when={"state": "HUNG"})],
    )


def show(row: Item) -> dict[str, Any]:
    """A cloakroom as the API shows it."""
    return {name: row[name] for name in ("id", "hooks", "free")}


def change(thing: str, row: Item | None, body: Mapping[str, Any]) -> list[Put | Update] | None:
    """The writes that give it so many hooks; None where more than those hold a coat."""
    hooks = body["hooks"]
    if row is None:
        return [Put({"pk": f"room#{thing}", "id": thing, "hooks": hooks, "free": hooks})]
    free = hooks - row["hooks"] + row["free"]
    if free < 0:
        return None
    return [Update(row["pk"], put={"hooks": hooks, "free": free}, when={"free": row["free"]})]
'''

HOLDING = """
    "cloakrooms": Holding(
        "cloakrooms",
        "room",
        cloakrooms.Cloakroom,
        cloakrooms.Shown,
        cloakrooms.show,
        cloakrooms.change,
    ),
"""

LOUNGE = """
from recourse.declare.declaration import Step, Together
from recourse.declare.request import request_model
from recourse.declare.saga import Saga
from services import cloakrooms, invoices, lounges, mails
from statemachines.fields import Id, Person


@request_model
class Places:
    id: Id
    places: int


@request_model
class Coat:
    room: Id


@request_model
class LoungeRequest:
    visit: Id
    traveller: Person
    lounge: Places
    coat: Coat | None = None


LOUNGE = Saga(
    "lounge",
    request=LoungeRequest,
    business_key="visit",
    contact="traveller",
    steps=[
        Together(
            Step(
                "lounge", lounges.hold, undo=lounges.release, confirm=lounges.book, takes=["lounge"]
            ),
            Step(
                "coat",
                cloakrooms.hang,
                undo=cloakrooms.give_back,
                confirm=cloakrooms.guard,
                takes=["coat"],
            ),
        ),
        Step("bill", invoices.issue, after=["lounge"], pivot=True),
        Step("mail", mails.send, takes=["traveller"]),
    ],
)
"""

VISIT = {
    "visit": "v-1",
    "traveller": {"name": "Asha Rao", "email": "asha@mail.test"},
    "lounge": {"id": "del-t3", "places": 2},
    "coat": {"room": "del-t3"},
}
SEED = {
    "lounges": {"del-t3": {"total": 9, "price": {"amount": 120000, "currency": "INR"}}},
    "cloakrooms": {"del-t3": {"hooks": 9}},
}
