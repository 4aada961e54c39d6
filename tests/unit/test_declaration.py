"""A declaration that could lose money is refused when it is built, with the step's name."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Annotated, Any, Literal, NewType, TypedDict

import pytest
from annotated_types import Len
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from recourse.choreography.routing import describe, triggers
from recourse.declare.declaration import Step, Together
from recourse.declare.request import Checked, request_model
from recourse.declare.saga import Saga, collect
from recourse.declare.shape import Retry
from recourse.declare.step import Action, Call, Decision, Nothing, action, confirm, undo
from recourse.errors import DeclarationError, Refusal
from recourse.orchestration.compiler import compile_saga
from services import flights, hotels

Name = NewType("Name", str)


@request_model
class Person:
    name: Annotated[str, Len(1)]
    email: Name


@request_model
class Ask:
    order_id: Annotated[str, Len(1, 128)]
    wanted: int
    extra: int | None = None
    limit: int | None = 5
    size: int = 1
    nullable: int | None
    anything: Any
    kind: Literal["small", None] = None
    untrue: int = None  # type: ignore[assignment]
    customer: Person
    friend: Person | None = None


@dataclass(frozen=True, kw_only=True)
class Taken:
    wanted: int | None = None
    extra: int | None = None
    limit: int | None = None
    size: int | None = None
    kind: str | None = None


class SoldOutError(Refusal):
    pass


@action(Taken, refuses=[SoldOutError])
def hold(call: Call[Taken]) -> Decision:
    return Decision()


@undo()
def release(call: Call) -> Decision:
    return Decision()


@confirm()
def book(call: Call) -> Decision:
    return Decision()


@action()
def pay(call: Call) -> Decision:
    return Decision()


def find_charge(call: Call) -> Decision | None:
    return None


@action(external=True)
def charge(call: Call) -> Decision:
    return Decision()


@undo(external=True)
def repay(call: Call) -> Decision:
    return Decision()


@action(external=True, find=find_charge)
def take_money(call: Call) -> Decision:
    return Decision()


@action(find=find_charge)
def lookup(call: Call) -> Decision:
    return Decision()


@action(external=True, find=lambda call: None)
def by_lambda(call: Call) -> Decision:
    return Decision()


@action(external=True, find=lookup)  # an action is no function that looks up
def by_action(call: Call) -> Decision:
    return Decision()


@action(external=1)  # type: ignore[arg-type]
def unsure(call: Call) -> Decision:
    return Decision()


@action(settings="MAIL_PROVIDER")
def told(call: Call) -> Decision:
    return Decision()


@action(secrets=["mail_secret"])
def told_secret(call: Call) -> Decision:
    return Decision()


@action(settings=["MAIL"], secrets=["MAIL"])
def told_twice(call: Call) -> Decision:
    return Decision()


@action(settings=["mail_provider"])
def told_low(call: Call) -> Decision:
    return Decision()


@action(documents="yes")  # type: ignore[arg-type]
def filing(call: Call) -> Decision:
    return Decision()


@action(reads=["a"])  # type: ignore[arg-type]
def reading(call: Call) -> Decision:
    return Decision()


@action(reads=lambda: [])  # type: ignore[arg-type, misc]
def reading_nothing(call: Call) -> Decision:
    return Decision()


@action(refuses=SoldOutError)  # type: ignore[arg-type]
def refusing(call: Call) -> Decision:
    return Decision()


@action(refuses=[KeyError])  # type: ignore[list-item]
def refusing_keys(call: Call) -> Decision:
    return Decision()


@action()  # type: ignore[arg-type]
async def waiting(call: Call) -> Decision:
    return Decision()


@action()
def yielding(call: Call) -> Any:
    yield Decision()


@action()  # type: ignore[arg-type]
def of_two(call: Call, other: int) -> Decision:
    return Decision()


def plain(call: Call) -> Decision:
    return Decision()


renamed = action()(plain)
by_name_of_nothing = action()(lambda call: Decision())
partial = action()(functools.partial(plain))


class Service:
    @action()
    def method(self: Call) -> Decision:
        return Decision()


def nested() -> Action:
    @action()
    def inner(call: Call) -> Decision:
        return Decision()

    return inner


HOLD = Step("hold", hold, undo=release, takes=["wanted"])
PAY = Step("pay", pay, pivot=True)


def declare(*steps: Any, **changes: Any) -> Saga:
    given: dict[str, Any] = {"request": Ask, "business_key": "order_id", "steps": steps}
    return Saga("shop", **given | changes)


def mixed(*anything: Any) -> Any:
    return anything


def step(name: Any = "grab", act: Any = hold, **changes: Any) -> Step:
    """A step before the pivot, sound but for what a test changes."""
    return Step(name, act, **{"undo": release} | changes)


def tried(**how: Any) -> Step:
    return step(retry=Retry(**how))


def test_a_sound_declaration_is_taken() -> None:
    saga = declare(HOLD, PAY, Step("tell", pay, after=["hold"]))
    assert [saga.role(step.name) for step in saga.all] == ["compensable", "pivot", "retriable"]
    assert saga.pivot.name == "pay"
    assert (
        saga.retry(saga.by_name["tell"]).attempts > saga.retry(saga.by_name["hold"]).attempts >= 4
    )


def test_what_acts_elsewhere_is_taken_where_it_can_be_undone_or_found() -> None:
    declare(Step("charge", charge, undo=repay), PAY, Step("mail", charge_later))
    declare(HOLD, Step("pay", take_money, pivot=True))


@action(external=True)
def charge_later(call: Call) -> Decision:
    return Decision()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        # The pivot.
        ([Step("grab", hold), PAY], "'grab'.*no undo"),
        ([HOLD, PAY, Step("late", pay, undo=release)], "'late'.*nothing is undone"),
        ([HOLD, Step("pay", pay, undo=release, pivot=True)], "'pay'.*never undone"),
        ([HOLD, PAY, Step("again", pay, pivot=True)], r"2 pivots \['pay', 'again'\]"),
        ([HOLD], r"0 pivots"),
        ([], r"0 pivots"),
        ([HOLD, PAY, Step("odd", hold)], "'odd'.*SoldOutError.*nothing catches"),
        ([HOLD, PAY, Step("odd", pay, confirm=book)], "'odd'.*confirmed"),
        ([Together(HOLD, PAY)], "'hold'.*'pay' decides alone"),
        ([HOLD, Together(Step("tell", pay), PAY)], "'tell'.*'pay' decides alone"),
        ([step(pivot="yes"), PAY], "'grab'.*pivot must be True or False, got 'yes'"),
        ([step(pivot=1), PAY], "'grab'.*pivot must be True or False, got 1"),
        # Names.
        ([HOLD, step("hold"), PAY], "'hold' is declared twice"),
        ([Together(HOLD, step("hold")), PAY], "'hold' is declared twice"),
        ([step("Hold!"), PAY], "'Hold!'.*lower case"),
        ([step("hold\n"), PAY], "lower case"),
        ([step(5), PAY], "step 5 of 'shop'.*lower case"),
        ([step(None), PAY], "step None of 'shop'.*lower case"),
        ([step(["hold"]), PAY], r"step \['hold'\] of 'shop'.*lower case"),
        ([step("a" * 70), PAY], "'aaa.*at most 69"),
        (
            [Together(*(step(f"seat_{n}_a") for n in range(8))), PAY],
            r"'seat_0_a', 'seat_1_a'.*of 'shop'.*at most 80 characters, got 85",
        ),
        # What takes it back, and where.
        ([step(act=release), PAY], "'grab'.*action must be made by @action.*@undo"),
        ([step(act=book), PAY], "'grab'.*action must be made by @action.*@confirm"),
        ([step(act=plain), PAY], "'grab'.*action must be made by @action.*plain"),
        ([step(act=None), PAY], "'grab'.*action must be made by @action, got None"),
        ([Step("grab", release, undo=hold), PAY], "'grab'.*action must be made by @action"),  # type: ignore[arg-type]
        ([step(undo=hold), PAY], "'grab'.*undo must be made by @undo.*hold.*@action"),
        ([step(undo=book), PAY], "'grab'.*undo must be made by @undo.*book.*@confirm"),
        ([step(undo=plain), PAY], "'grab'.*undo must be made by @undo"),
        ([step(confirm=release), PAY], "'grab'.*confirm must be made by @confirm.*@undo"),
        ([step(confirm=True), PAY], "'grab'.*confirm must be made by @confirm, got True"),
        ([step(undo=flights.release), PAY], "'grab'.*services.flights:release.*beside the action"),
        ([step(confirm=flights.book), PAY], "'grab'.*services.flights:book.*beside the action"),
        (
            [step(act=flights.hold, undo=hotels.release), PAY],
            "'grab'.*services.hotels:release.*services.flights:hold",
        ),
        # What a step's own function would not find, or could not call.
        ([step(act=renamed), PAY], "'grab'.*found.*test_declaration:plain.*own name"),
        ([step(act=by_name_of_nothing), PAY], "'grab'.*found.*<lambda>.*top of a module"),
        ([step(act=partial), PAY], "'grab'.*must be a plain function.*partial"),
        ([step(act=Service.method), PAY], "'grab'.*found.*test_declaration:method"),
        ([step(act=nested()), PAY], "'grab'.*found.*test_declaration:inner"),
        ([step(act=action()(Service().method)), PAY], "'grab'.*must be a plain function"),
        ([step(act=action(Taken)(hold)), PAY], "'grab'.*must be a plain function.*hold"),
        ([step(act=action()(5)), PAY], "'grab'.*must be a plain function.*5"),  # type: ignore[arg-type]
        ([step(act=waiting), PAY], "'grab'.*without async"),
        ([step(act=yielding), PAY], "'grab'.*without async or yield"),
        ([step(act=of_two), PAY], "'grab'.*one argument"),
        # What an action says of itself.
        ([step(act=refusing), PAY], "'grab'.*list of Refusal classes, got SoldOutError"),
        ([step(act=refusing_keys), PAY], "'grab'.*KeyError.*not a Refusal"),
        ([step(act=reading), PAY], r"'grab'.*reads.*function of a Call.*\['a'\]"),
        ([step(act=reading_nothing), PAY], "'grab'.*reads.*function of a Call"),
        ([step(act=filing), PAY], "'grab'.*documents.*True or False, got 'yes'"),
        ([step(act=unsure), PAY], "'grab'.*external.*True or False, got 1"),
        ([step(act=told), PAY], "'grab'.*settings of .*:told.*MAIL_PROVIDER, got 'MAIL_PROVIDER'"),
        ([step(act=told_low), PAY], r"'grab'.*in capitals.*got \['mail_provider'\]"),
        ([step(act=told_secret), PAY], r"'grab'.*secrets of .*got \['mail_secret'\]"),
        ([step(act=told_twice), PAY], "'grab'.*MAIL of .*a setting or a secret, and not both"),
        # Effects elsewhere.
        ([step(act=charge), PAY], "'grab'.*action acts outside.*undo does not"),
        ([step(undo=repay), PAY], "'grab'.*undo acts outside.*action does not"),
        ([HOLD, Step("pay", charge, pivot=True)], "'pay'.*could not be settled.*find="),
        ([HOLD, Step("pay", lookup, pivot=True)], "'pay'.*find.*external=True"),
        ([step(act=take_money, undo=repay), PAY], "'grab'.*find.*pivot=True"),
        ([HOLD, PAY, Step("late", take_money)], "'late'.*find.*pivot=True"),
        ([HOLD, Step("pay", by_lambda, pivot=True)], "'pay'.*find.*top of a module"),
        ([HOLD, Step("pay", by_action, pivot=True)], "'pay'.*find.*plain function"),
        # What it takes.
        ([step(takes=["nothing"]), PAY], "'grab'.*'nothing'"),
        ([step(takes="wanted"), PAY], r"'grab'.*takes must be a list.*write takes=\['wanted'\]"),
        ([step(takes=5), PAY], "'grab'.*takes must be a list of names, got 5"),
        ([step(takes=[5]), PAY], "'grab'.*takes must be a list of names"),
        ([step(takes=[["wanted"]]), PAY], "'grab'.*takes must be a list of names"),
        ([step(takes={"wanted"}), PAY], "'grab'.*takes must be a list of names"),
        ([step(takes=["wanted", "wanted"]), PAY], "'grab'.*takes must name each once"),
        ([step(after=["pay"]), PAY], "'grab'.*'pay'.*not an earlier step"),
        ([HOLD, step(after="hold"), PAY], r"'grab'.*after must be a list.*write after=\['hold'\]"),
        ([HOLD, step(after=["hold", "hold"]), PAY], "'grab'.*after must name each once"),
        ([HOLD, step(after=[HOLD]), PAY], "'grab'.*after must be a list of names"),
        ([step(takes=["nullable"]), PAY], "'grab'.*'nullable'.*required and may be None"),
        ([step(takes=["wanted", "nullable"]), PAY], "'nullable'.*required and may be None"),
        ([step(takes=["anything"]), PAY], "'grab'.*'anything'.*required and may be None"),
        ([step(takes=["untrue"]), PAY], "'grab'.*'untrue'.*default is None.*no default"),
        ([HOLD, Step("pay", pay, pivot=True, takes=["extra"])], "'pay'.*could leave it out"),
        ([HOLD, Step("pay", pay, pivot=True, takes=["limit"])], "'pay'.*could leave it out"),
        ([HOLD, Step("pay", pay, pivot=True, takes=["kind"])], "'pay'.*could leave it out"),
        ([HOLD, Step("pay", pay, pivot=True, takes=["nullable"])], "'pay'.*may be None"),
        # How long, how often.
        *(
            ([step(timeout=bad), PAY], "'grab'.*timeout must be 1 to 900 seconds, got")
            for bad in (0, -1, 900.5, 901, math.nan, math.inf, -math.inf, True, "30", None, 0.01)
        ),
        *(
            ([tried(attempts=bad), PAY], "'grab'.*whole number, at least 4 and at most")
            for bad in (3, 0, -4, 101, 2000, 4.5, 5.0, math.nan, True, "8", None)
        ),
        *(
            ([tried(cap=bad), PAY], "'grab'.*cap of a retry must be above 0 and at")
            for bad in (0, -1, 901, 1e9, math.nan, math.inf, True, "60", None)
        ),
        *(
            ([tried(interval=bad), PAY], "'grab'.*interval.*at most its cap of 10 sec")
            for bad in (0, -1, 11, math.nan, math.inf, True, "1", None)
        ),
        ([step(retry=5), PAY], "'grab'.*retry must be a Retry.*got 5"),
        (
            [*(step(f"s{n}", retry=Retry(attempts=100)) for n in range(30)), PAY],
            "at most 25000 events of history",
        ),
        # The list of steps.
        ([Together(), PAY], "without steps"),
        (
            [Together(*mixed(Together(HOLD), step())), PAY],
            "'shop'.*Together.*beside 'grab'.*neither nest",
        ),
        ([Together([HOLD, step()]), PAY], "'shop'.*Together.*neither nested nor with a list"),  # type: ignore[arg-type]
        ([Together(*mixed(HOLD, None)), PAY], "'shop'.*Together.*got None beside 'hold'"),
        ([[HOLD, step()], PAY], r"'shop'.*'hold'.*write Together\(\.\.\.\)"),
        ([HOLD, plain, PAY], "'shop'.*got plain"),
        ([HOLD, hold, PAY], "'shop'.*got hold, which @action made"),
        ([HOLD, None, PAY], "'shop'.*got None"),
    ],
)
def test_an_unsound_one_is_refused(steps: list[Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        declare(*steps)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"business_key": "extra"}, "not a required field"),
        ({"business_key": "no_such"}, "not a required field"),
        ({"business_key": "size"}, "not a required field"),
        ({"business_key": ["order_id"]}, "not a required field"),
        ({"business_key": None}, "not a required field"),
        ({"business_key": "wanted"}, "'wanted' must be text, got int: write `wanted: str`"),
        ({"business_key": "nullable"}, "'nullable' must be text"),
        ({"business_key": "anything"}, "'anything' must be text"),
        ({"request": dict}, "not a @request_model"),
        ({"request": None}, "not a @request_model"),
        ({"request": Person(name="a", email=Name("b"))}, "not a @request_model"),
        ({"coordination": "orchestrated"}, "'orchestration' or 'choreography', got 'orchestrated'"),
        ({"coordination": ["choreography"]}, "'orchestration' or 'choreography'"),
        ({"coordination": None}, "'orchestration' or 'choreography', got None"),
        *(
            ({"deadline": bad}, "deadline must be 1 to 31536000 seconds")
            for bad in (0, -1, 31536001, math.nan, math.inf, True, "60", None, 10**5000)
        ),
        ({"contact": "no_such"}, "contact 'no_such' is not a field of Ask"),
        ({"contact": 5}, "contact 5 is not a field of Ask"),
        ({"contact": ["customer"]}, "is not a field of Ask"),
        ({"contact": "order_id"}, "contact 'order_id'.*str has no name"),
        ({"contact": "wanted"}, "contact 'wanted'.*int has no name"),
        ({"contact": "anything"}, "contact 'anything'.*has no name"),
        ({"steps": HOLD}, r"steps must be a list.*Step\('hold', \.\.\.\)"),
        ({"steps": "hold"}, "steps must be a list.*'hold'"),
        ({"steps": None}, "steps must be a list.*None"),
        ({"steps": {"hold": HOLD}}, "steps must be a list"),
        ({"steps": Together(HOLD, PAY)}, "steps must be a list.*Together"),
    ],
)
def test_the_saga_itself_must_be_sound(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=rf"^saga 'shop': .*{message}"):
        declare(HOLD, PAY, **changes)


@pytest.mark.parametrize(
    "name", ["Shop Things", "", "shop\n", "-shop", 5, None, ["shop"], "a" * 65]
)
def test_a_saga_is_named_for_urls_and_events(name: Any) -> None:
    with pytest.raises(DeclarationError, match="lower case"):
        Saga(name, request=Ask, business_key="order_id", steps=[HOLD, PAY])


@request_model
class Nameless:
    order_id: str
    customer: WithoutEmail
    mute: WithoutText


@request_model
class WithoutEmail:
    name: str


@request_model
class WithoutText:
    name: str
    email: str | None = None


def test_a_contact_has_a_name_and_an_email_that_are_text() -> None:
    steps = [Step("hold", hold, undo=release), PAY]
    for contact, who in (("customer", "WithoutEmail"), ("mute", "WithoutText")):
        with pytest.raises(DeclarationError, match=rf"'{contact}'.*{who} has no email"):
            declare(*steps, request=Nameless, contact=contact)
    assert declare(HOLD, PAY, contact="customer").contact == "customer"
    assert declare(HOLD, PAY, contact="friend").contact == "friend"


def test_a_type_that_is_not_there_is_said() -> None:
    @request_model
    class Local:
        order_id: str
        other: NoSuchThing  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(DeclarationError, match=r"types of Local cannot be resolved.*NoSuchThing"):
        declare(PAY, request=Local)


@dataclass(frozen=True)
class Unresolved:
    name: str
    email: NoSuchThing  # type: ignore[name-defined]  # noqa: F821


@request_model
class UnresolvedModel:
    name: str
    email: NoSuchThing  # type: ignore[name-defined]  # noqa: F821


class UnresolvedKeys(TypedDict):
    other: "NoSuchThing"  # type: ignore[name-defined]  # noqa: F821, UP037


class TypeAliasType:
    """As a `type` statement makes one, which evaluates what it calls when it is asked."""

    __name__ = "Alias"

    @property
    def __value__(self) -> Any:
        return NoSuchThing  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("hint", "of"),
    [
        (UnresolvedModel, "UnresolvedModel"),
        (Unresolved, "Unresolved"),
        (list[Unresolved], "Unresolved"),
        (dict[str, UnresolvedKeys], "UnresolvedKeys"),
        (TypeAliasType(), "Alias"),
    ],
)
@pytest.mark.parametrize("contact", [None, "other"])
def test_a_type_within_a_field_of_a_request_that_is_not_there_is_said(
    hint: Any, of: str, contact: str | None
) -> None:
    annotations = {"order_id": str, "other": hint}
    request: type = request_model(type("Nested", (), {"__annotations__": annotations}))
    said = rf"^saga '.*types of {of} cannot be resolved.*NoSuchThing"
    with pytest.raises(DeclarationError, match=said):
        declare(PAY, request=request, contact=contact)


def test_a_class_that_only_inherits_the_shape_of_a_request_is_none() -> None:
    class More(Ask):
        more: int = 0

    with pytest.raises(DeclarationError, match=r"not a @request_model class, got .*More"):
        declare(HOLD, PAY, request=More)


def test_a_step_is_left_out_when_the_request_has_none_of_what_it_takes() -> None:
    saga = declare(HOLD, step("more", takes=["extra"]), PAY)
    more = saga.by_name["more"]
    assert saga.left_out(more, {"order_id": "o", "wanted": 1, "extra": None})
    assert not saga.left_out(more, {"order_id": "o", "wanted": 1, "extra": 0})
    assert not saga.left_out(PAY, {"order_id": "o"})


@pytest.mark.parametrize(
    ("takes", "optional"),
    [
        (["extra"], True),
        (["limit"], True),
        (["kind", "extra"], True),
        (["size"], False),
        (["extra", "size"], False),
        (["wanted", "extra"], False),
        ([], False),
    ],
)
def test_whether_a_request_can_leave_a_step_out_follows_from_types_alone(
    takes: list[str], optional: bool
) -> None:
    """A default that is not None is there, and a None that is allowed may be sent."""
    saga = declare(step("first", takes=takes), step("second"), PAY)
    assert saga.optional(saga.by_name["first"]) is optional
    started = "recourse.shop.started" in triggers(saga, saga.by_name["second"]).forward
    assert started is optional, "the next step hears what comes before one that is left out"
    nothing = dict.fromkeys(["extra", "limit", "kind"]) | {"wanted": 1, "size": 1}
    assert saga.left_out(saga.by_name["first"], nothing) is optional


def test_the_function_is_named_for_what_it_does() -> None:
    assert HOLD.function == "TestDeclarationHold"
    assert HOLD.action.ref.endswith("test_declaration:hold")


SERVICE = """
from recourse.declare.step import Decision, action, undo

@action()
def hold(call): return Decision()

@action()
def pay(call): return Decision()

@undo()
def release(call): return Decision()

@undo()
def let_go(call): return Decision()
"""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Any]:
    """Makes a service: a module of this name."""

    def make(name: str, source: str = SERVICE) -> Any:
        made = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, made)
        exec(source, vars(made))
        return made

    return make


def other(name: str, *steps: Step) -> Saga:
    return Saga(name, request=Ask, business_key="order_id", steps=[*steps, PAY])


def test_two_services_of_one_name_are_refused(service: Any) -> None:
    ours, theirs = service("ours.rooms"), service("theirs.rooms")
    one = Step("one", ours.hold, undo=ours.release)
    two = Step("two", theirs.pay, undo=theirs.release)
    with pytest.raises(DeclarationError, match=r"'two' of 'shop'.*theirs\.rooms.*ours\.rooms"):
        declare(one, two, PAY)
    first, second = other("first", one), other("second", two)
    with pytest.raises(DeclarationError, match=r"'two' of 'second'.*theirs\.rooms.*ours\.rooms"):
        collect(first, second)


@pytest.mark.parametrize(
    ("changes", "what"), [({"undo": "let_go"}, "undo"), ({"timeout": 60}, "timeout")]
)
def test_one_function_serves_an_action_with_one_undo_and_timeout(
    service: Any, changes: dict[str, Any], what: str
) -> None:
    seats = service("shop.seats")
    if "undo" in changes:
        changes = {"undo": seats.let_go}
    one = Step("one", seats.hold, undo=seats.release)
    two = Step("two", seats.hold, **{"undo": seats.release} | changes)
    message = f"'two' of '{{}}'.*SeatsHold serves step 'one' of '{{}}'.*another {what}"
    with pytest.raises(DeclarationError, match=message.format("shop", "shop")):
        declare(one, two, PAY)
    with pytest.raises(DeclarationError, match=message.format("second", "first")):
        collect(other("first", one), other("second", two))
    collect(other("first", one), other("second", one))


def test_two_actions_whose_functions_would_have_one_name_are_refused(service: Any) -> None:
    gate = service("shop.gate", SERVICE.replace("def pay", "def check_in"))
    check = service("shop.gate_check", SERVICE.replace("def pay", "def in_"))
    check.in_.decide.__name__ = "in_"
    steps = [
        Step("one", gate.check_in, undo=gate.release),
        Step("two", check.in_, undo=check.release),
    ]
    assert steps[0].function == steps[1].function == "GateCheckIn"
    with pytest.raises(DeclarationError, match=r"'two' of 'shop'.*GateCheckIn.*another action"):
        declare(*steps, PAY)


def test_an_action_of_the_program_that_was_started_is_no_service(service: Any) -> None:
    """Its functions are started by other programs, to which `__main__` is another module."""
    main = service("__main__")
    with pytest.raises(DeclarationError, match=r"'hold' of 'shop'.*can be imported"):
        declare(Step("hold", main.hold, undo=main.release), PAY)


def test_sagas_are_listed_by_name_and_each_has_its_own() -> None:
    one = declare(HOLD, PAY)
    assert collect() == {}
    assert collect(one, other("shop-too", HOLD)).keys() == {"shop", "shop-too"}
    with pytest.raises(DeclarationError, match="'shop': its name must be its own"):
        collect(one, declare(HOLD, PAY))
    with pytest.raises(DeclarationError, match=r"'s-hop': its name must be its own.*'shop'"):
        collect(one, other("s-hop", HOLD))
    with pytest.raises(DeclarationError, match="Sagas alone, got 5"):
        collect(one, 5)  # type: ignore[arg-type]


# Whatever is written, it is a saga that can be run or a DeclarationError.

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=3)
    | st.sampled_from(
        [hold, release, book, pay, charge, repay, take_money, plain, print, len, object(), Ask]
    )
    | st.sampled_from([HOLD, PAY, Together(HOLD), Retry(), SoldOutError, KeyError, Service, json])
    | st.sampled_from(["order_id", "wanted", "extra", "customer", "choreography"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
        | st.lists(inner, max_size=2).map(lambda some: Together(*some))
    ),
    max_leaves=6,
)


@st.composite
def given_or_junk(draw: st.DrawFn, /, **good: Any) -> dict[str, Any]:
    """Arguments, at most two of them junk."""
    spoilt = draw(st.sets(st.sampled_from(sorted(good)), max_size=2))
    return {name: draw(JUNK) if name in spoilt else value for name, value in good.items()}


@st.composite
def steps(draw: st.DrawFn) -> Any:
    retry = Retry(**draw(given_or_junk(attempts=5, interval=1.5, cap=20)))
    held = {"name": "grab", "action": hold, "undo": release, "confirm": book, "takes": ["extra"]}
    more = {"after": [], "pivot": False, "timeout": 30, "retry": retry}
    return draw(
        st.just(step("other"))
        | given_or_junk(**held, **more).map(lambda given: Step(**given))
        | JUNK
        | st.just(Together(step("left"), step("right")))
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(steps(), max_size=3),
    given_or_junk(
        name="shop",
        request=Ask,
        business_key="order_id",
        steps=None,
        coordination="choreography",
        deadline=60,
        contact="customer",
    ),
)
def test_whatever_is_declared_is_a_saga_that_compiles_or_a_declaration_error(
    before: list[Any], given: dict[str, Any]
) -> None:
    if given["steps"] is None:
        given["steps"] = [*before, PAY]
    try:
        saga = Saga(**given)
    except DeclarationError as refused:
        assert given["name"] != "shop" or "'shop'" in str(refused)
        return
    assert compile_saga(saga)["States"] and describe(saga)
    assert collect(saga) == {"shop": saga}


def made(call: Call) -> Decision:
    return Decision()


def taken_back(call: Call) -> Decision:
    return Decision()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    given_or_junk(
        ask=Nothing,
        reads=lambda call: [],
        tables=[],
        refuses=[],
        documents=False,
        external=True,
        find=None,
        settings=["MAIL_PROVIDER"],
    ),
    given_or_junk(ask=Nothing, reads=lambda call: [], tables=[], external=True),
    given_or_junk(decide=made),
)
def test_whatever_an_action_says_of_itself_is_taken_or_a_declaration_error(
    of_action: dict[str, Any], of_undo: dict[str, Any], decided: dict[str, Any]
) -> None:
    module = sys.modules[__name__]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "made", action(**of_action)(decided["decide"]))
        patch.setattr(module, "taken_back", undo(**of_undo)(taken_back))
        grab = Step("grab", module.made, undo=module.taken_back)
        try:
            saga = declare(grab, PAY)
        except DeclarationError as refused:
            assert "'grab' of 'shop'" in str(refused)
            return
    assert compile_saga(saga)["States"]


@pytest.mark.parametrize("share", [0, 500 * 1024])
def test_results_that_would_not_fit_together_are_refused_with_the_steps_name(share: int) -> None:
    with pytest.raises(DeclarationError, match=r"step '\w+' of 'shop': its result would have"):
        declare(replace(HOLD, result_bytes=share), PAY)


def _unlike(value: int, other: int) -> str | None:
    return None if value != other else "must be another"


@request_model
class Range:
    least: int
    most: Annotated[int, Checked(_unlike, beside=("least",))] | None = None


@request_model
class Ranges:
    name: str
    ranges: list[Range]


@request_model
class Backwards:
    name: str
    most: Annotated[int, Checked(_unlike, beside=("least",))]
    least: int


@request_model
class WithinBackwards:
    name: str
    range: Backwards | None = None


def test_a_field_is_checked_beside_fields_that_are_before_it() -> None:
    steps = [Step("pay", pay, pivot=True)]
    Saga("s", request=Ranges, business_key="name", steps=steps)
    for model in (Backwards, WithinBackwards):
        with pytest.raises(DeclarationError, match=r"Backwards\.most must be checked beside"):
            Saga("s", request=model, business_key="name", steps=steps)


def test_a_field_that_is_checked_beside_another_is_told_of_alone() -> None:
    def told(body: dict[str, Any]) -> list[Any]:
        with pytest.raises(ValidationError) as refused:
            TypeAdapter(Range).validate_json(json.dumps(body))
        return [(one["loc"], one["msg"]) for one in refused.value.errors()]

    assert TypeAdapter(Range).validate_json('{"most": 2, "least": 1}') == Range(least=1, most=2)
    assert told({"most": 1, "least": 1}) == [(("most",), "must be another")]
    assert [where for where, _ in told({"most": 1, "least": "x"})] == [("least",)]
