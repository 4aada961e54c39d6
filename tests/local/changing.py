"""An app whose sagas are changed while they run: its two releases, as `recourse new` lays it out.

Each saga is named after the heading of docs/change.md that it is changed by, and has the same four
steps before that. A request whose `door` is none but `free` waits at its second step until that
door is open: then its saga is in flight for as long as a test wants.
"""

from __future__ import annotations

DESK = '''
"""Papers on a desk: each step lays one there, and its undo takes it away."""

from dataclasses import dataclass

from recourse import Call, Decision, Put, Refusal, TransientError, Update, action, undo


class {error}(Refusal):
    """The desk takes no such paper."""


class DoorShutError(TransientError):
    """It is waited for."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Which door leads to it."""

    door: str{asked}


def paper(call: Call) -> str:
    return f"paper#{{call.saga_id}}#{{call.step}}"


def laid(call: Call, **result: object) -> Decision:
    row = {{"pk": paper(call), "saga_id": call.saga_id, "status": "LAID"}}
    return Decision(result=result, writes=[Put(row)])


def taken(call: Call) -> Decision:
    return Decision(
        writes=[Update(paper(call), put={{"status": "TAKEN"}}, when={{"status": "LAID"}})]
    )


@action(Ask)
def first(call: Call[Ask]) -> Decision:
    return laid(call, door=call.ask.door)


@undo()
def unfirst(call: Call) -> Decision:
    return taken(call)


@action(Ask, reads=lambda call: [f"door#{{call.ask.door}}"], refuses=[{error}])
def second(call: Call[Ask]) -> Decision:
    if call.ask.door != "free" and call.item is None:
        raise DoorShutError(f"the door {{call.ask.door}} is shut")
    if call.ask.door == "wrong":
        raise {error}("the desk is behind another door")
    return laid(call, door=call.ask.door{answered})


@undo()
def unsecond(call: Call) -> Decision:
    return taken(call)


@action()
def decide(call: Call) -> Decision:
    return laid(call)


@action()
def last(call: Call) -> Decision:
    return laid(call)


@action()
def extra(call: Call) -> Decision:
    return laid(call)


@undo()
def unextra(call: Call) -> Decision:
    return taken(call)
'''
TILL = '''
"""Coins in a till: the service that moves."""

from recourse import Call, Decision, Put, Update, action, undo


@action()
def put(call: Call) -> Decision:
    row = {"pk": f"paper#{call.saga_id}#{call.step}", "saga_id": call.saga_id, "status": "LAID"}
    return Decision(writes=[Put(row)])


@undo()
def unput(call: Call) -> Decision:
    key = f"paper#{call.saga_id}#{call.step}"
    return Decision(writes=[Update(key, put={"status": "TAKEN"}, when={"status": "LAID"})])
'''
MOVED = '''
"""It has moved; sagas of before the move find it by this name."""

from services.front.till import put, unput

__all__ = ["put", "unput"]
'''
DECLARED = '''
"""Sagas with the same four steps, but for what is said of each."""

from recourse import Retry, Saga, Step, collect, request_model
from services import desk
{till}


@request_model
class Errand:
    """Which door leads to the desk."""

    errand_id: str
    door: str
    note: str | None = None


FIRST = Step("first", desk.first, undo=desk.unfirst, takes=["door"])
BEGIN = Step("begin", desk.first, undo=desk.unfirst, takes=["door"])
EXTRA = Step("extra", desk.extra, undo=desk.unextra)
PUT = Step("put", till.put, undo=till.unput)
# It waits for its door: for minutes, also in a machine, whose waits the local cloud shortens twice.
WAITS = Retry(attempts=100, interval=300, cap=300)
SECOND = Step("second", desk.second, undo=desk.unsecond, takes=["door"], retry=WAITS)
NOTED = Step("second", desk.second, undo=desk.unsecond, takes=["door", "note"], retry=WAITS)
DECIDE = Step("decide", desk.decide, pivot=True)
LAST = Step("last", desk.last, after=["second"], timeout={timeout})


def saga(name, *steps):
    return Saga(name, request=Errand, business_key="errand_id", steps=steps, deadline=86400)


SAGAS = collect(
{sagas})
'''
FOUR = ["FIRST", "SECOND", "DECIDE", "LAST"]
BEFORE: dict[str, list[str]] = {
    "add-a-step": FOUR,
    "remove-a-step": FOUR,
    "rename-a-step": FOUR,
    "change-the-order": FOUR,
    "change-what-a-step-takes-or-returns": FOUR,
    "rename-an-error": FOUR,
    "change-a-time-out": FOUR,
    "retire-a-saga": FOUR,
    "move-a-service": ["PUT", "SECOND", "DECIDE", "LAST"],
}
"""The steps of each saga."""
AFTER: dict[str, list[str]] = BEFORE | {
    "add-a-step": ["FIRST", "EXTRA", "SECOND", "DECIDE", "LAST"],
    "remove-a-step": ["SECOND", "DECIDE", "LAST"],
    "rename-a-step": ["BEGIN", "SECOND", "DECIDE", "LAST"],
    "change-the-order": ["SECOND", "FIRST", "DECIDE", "LAST"],
    "change-what-a-step-takes-or-returns": ["FIRST", "NOTED", "DECIDE", "LAST"],
}
del AFTER["retire-a-saga"]


def _declared(sagas: dict[str, list[str]], *, till: str, timeout: int) -> str:
    lines = "".join(f'    saga("{name}", {", ".join(steps)}),\n' for name, steps in sagas.items())
    return DECLARED.format(till=till, timeout=timeout, sagas=lines)


OLD = {
    "services/desk.py": DESK.format(error="WrongDoorError", asked="", answered=""),
    "services/till.py": TILL,
    "statemachines/__init__.py": _declared(BEFORE, till="from services import till", timeout=10),
}
"""The files of the first release."""
NEW = {
    "services/desk.py": DESK.format(
        error="OtherDoorError",
        asked="\n    note: str | None = None",
        answered=", note=call.ask.note",
    ),
    "services/front/__init__.py": '"""Services at the front."""\n',
    "services/front/till.py": TILL,
    "services/till.py": MOVED,
    "statemachines/__init__.py": _declared(
        AFTER, till="from services.front import till", timeout=20
    ),
}
"""Those that the second one changes."""
BACK = {"statemachines/__init__.py": OLD["statemachines/__init__.py"]}
"""Those that a roll-back puts back: what is declared, and no step."""


def step_names(steps: list[str]) -> list[str]:
    """The names of steps, in the order in which a saga shows them."""
    return ["second" if one == "NOTED" else one.lower() for one in steps]
