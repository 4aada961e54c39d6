"""What a step is asked: made from any request that its saga takes, and never changed."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from datetime import date
from types import GenericAlias, MappingProxyType, ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, NewType, Optional, Union, get_args, get_origin

import pytest
from annotated_types import Ge
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from recourse.declare.asks import AskError, make
from recourse.declare.declaration import Step
from recourse.declare.fits import misfit
from recourse.declare.ids import SagaId
from recourse.declare.request import request_model
from recourse.declare.saga import Saga
from recourse.declare.step import Call, Decision, Nothing, action, undo
from recourse.errors import DeclarationError

Sku = NewType("Sku", str)


@dataclass(frozen=True, kw_only=True)
class Line:
    sku: Sku
    quantity: int = 1


@dataclass(frozen=True, kw_only=True)
class Tree:
    name: str
    under: tuple[Tree, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Everything:
    line: Line
    lines: Sequence[Annotated[Line, "one"]]
    tags: Mapping[str, int]
    tree: Tree
    kind: Literal["small", "large", 3]
    sure: bool
    note: str | None = None
    either: Line | str = "none"
    anything: Any = None
    limit: int = 5
    listed: tuple[str, ...] = field(default_factory=lambda: ("a",))


WHOLE: dict[str, Any] = {
    "line": {"sku": "mug", "quantity": 2},
    "lines": [{"sku": "pan"}],
    "tags": {"a": 1},
    "tree": {"name": "root", "under": [{"name": "leaf"}]},
    "kind": "small",
    "sure": True,
}


# Made.


def test_an_ask_is_made_of_json_with_all_that_is_in_it() -> None:
    made = make(Everything, WHOLE | {"anything": {"a": [1, None]}, "either": {"sku": "x"}})
    assert made == Everything(
        line=Line(sku=Sku("mug"), quantity=2),
        lines=(Line(sku=Sku("pan")),),
        tags={"a": 1},
        tree=Tree(name="root", under=(Tree(name="leaf"),)),
        kind="small",
        sure=True,
        either=Line(sku=Sku("x")),
        anything={"a": (1, None)},
    )
    assert (made.limit, made.listed, made.note) == (5, ("a",), None)


def test_what_is_unknown_is_ignored_and_what_is_absent_or_null_is_defaulted() -> None:
    line = {"sku": "mug", "quantity": None, "colour": "red"}
    made = make(Everything, WHOLE | {"line": line, "limit": None, "listed": None, "new": [1.5]})
    assert (made.line.quantity, made.limit, made.listed) == (1, 5, ("a",))
    assert make(Nothing, WHOLE) == Nothing()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"line": {}}, "line.sku of the request must be there, for it has no default"),
        ({"line": None}, "line of the request must be an object, got null"),
        ({"line": {"sku": 5}}, "line.sku of the request must be str, got int"),
        ({"lines": [{"sku": "a"}, {}]}, "lines.1.sku of the request must be there"),
        ({"lines": {}}, "lines of the request must be a list, got dict"),
        ({"lines": "ab"}, "lines of the request must be a list, got str"),
        ({"tags": {"a": True}}, "tags.a of the request must be int, got bool"),
        ({"tags": []}, "tags of the request must be an object, got list"),
        ({"tree": {"name": "a", "under": [{}]}}, "tree.under.0.name of the request must"),
        (
            {"kind": "tiny"},
            r"kind of the request must be one of \['small', 'large', 3\], got ",
        ),
        ({"kind": True}, "kind of the request must be one of"),
        ({"sure": 1}, "sure of the request must be bool, got int"),
        ({"note": 5}, "note of the request must be str, got int"),
        ({"either": {"quantity": 1}}, "either.sku of the request must be there"),
        ({"limit": "5"}, "limit of the request must be int, got str, for Everything"),
    ],
)
def test_what_cannot_be_made_is_said_with_its_field_and_nothing_of_what_was_asked(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(AskError, match=f"^{message}"):
        make(Everything, WHOLE | changes)


def test_what_a_class_itself_refuses_is_said_with_its_field() -> None:
    with pytest.raises(AskError, match=r"^span\.days of the request must be of Days: one at least"):
        make(Stay, {"span": {"days": {"count": 0}}})


@dataclass(frozen=True)
class Days:
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("one at least")


@dataclass(frozen=True)
class Span:
    days: Days


@dataclass(frozen=True)
class Stay:
    span: Span


# Never changed.


def test_a_step_that_changes_what_it_was_given_fails() -> None:
    made: Any = make(Everything, WHOLE | {"anything": {"a": [1]}})
    results: Any = {"flight": {"price": {"amount": 1}, "lines": [{"sku": "a"}]}, "car": None}
    about = SagaId("5" * 32), "shop", "pay", "ann", "o", "2026"
    call: Any = Call(*about, made, results, result={"a": [1]})
    spoiling: list[Callable[[], Any]] = [
        lambda: setattr(call, "ask", None),
        lambda: setattr(call.ask, "limit", 6),
        lambda: setattr(call.ask.line, "quantity", 6),
        lambda: setattr(call.ask.lines[0], "quantity", 6),
        lambda: call.ask.lines.append(1),
        lambda: call.ask.tags.update(a=2),
        lambda: call.ask.anything["a"].append(2),
        lambda: call.results.pop("car"),
        lambda: call.results["flight"].clear(),
        lambda: call.results["flight"]["price"].update(amount=2),
        lambda: call.results["flight"]["lines"][0].update(sku="b"),
        lambda: call.result["a"].append(2),
        lambda: call.result.update(a=2),
    ]
    for spoil in spoiling:
        with pytest.raises((AttributeError, TypeError)):
            spoil()
    assert call.results == {"flight": {"price": {"amount": 1}, "lines": ({"sku": "a"},)}} | {
        "car": None
    }


# Refused when the saga is built.


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@request_model
class Part:
    sku: Annotated[str, "known"]
    count: Annotated[int, Ge(1)]
    note: str | None = None


@request_model
class Branch:
    name: str
    under: list[Branch]


@request_model
class Request:
    order_id: str
    part: Part
    parts: list[Part]
    named: dict[str, Part]
    texts: dict[str, str]
    tree: Branch
    size: Size
    day: date
    small: Literal["small"]
    number: int
    sure: bool
    anything: dict[str, Any]
    pair: tuple[int, str]
    maybe: Part | None = None
    perhaps: int | None = None


@dataclass(frozen=True)
class OfPart:
    sku: str
    count: int


@dataclass(frozen=True)
class OfPartWithNote:
    sku: str
    note: str


@dataclass(frozen=True)
class OfPartWithColour:
    sku: str
    colour: str


@dataclass(frozen=True)
class OfPartWithADefault:
    sku: str
    colour: str = "red"
    note: str | None = None


@dataclass(frozen=True)
class Leaf:
    name: str
    under: tuple[Leaf, ...]


@dataclass(frozen=True)
class NumberedLeaf:
    name: int
    under: tuple[NumberedLeaf, ...]


@dataclass
class Loose:
    sku: str


@dataclass(frozen=True)
class WithLoose:
    part: Loose


def declare(ask: Any, takes: Sequence[str] = (), undo_ask: Any = Nothing) -> Saga:
    """A saga with a step that is asked this."""
    service = sys.modules["shop.asking"] = ModuleType("shop.asking")

    def hold(call: Call[Any]) -> Decision:
        return Decision()

    def release(call: Call[Any]) -> Decision:
        return Decision()

    def pay(call: Call) -> Decision:
        return Decision()

    for function in (hold, release, pay):
        function.__module__ = service.__name__
    made = {"hold": action(ask)(hold), "release": undo(undo_ask)(release), "pay": action()(pay)}
    vars(service).update(made)
    hold_it: Any = made["hold"]
    pay_it: Any = made["pay"]
    return Saga(
        "shop",
        request=Request,
        business_key="order_id",
        steps=[
            Step("grab", hold_it, undo=made["release"], takes=takes),  # type: ignore[arg-type]
            Step("pay", pay_it, pivot=True),
        ],
    )


def asking(**types: Any) -> Any:
    """A class with such fields; one whose type is in a list has a default, which is that of it."""
    made = [
        (name, hint[0], field(default=None)) if isinstance(hint, list) else (name, hint, field())
        for name, hint in types.items()
    ]
    return make_dataclass("Ask", made, frozen=True, kw_only=True)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("number", int),
        ("number", int | None),
        ("number", Annotated[int, Ge(1)]),
        ("number", int | str),
        ("number", object),
        ("part", OfPart),
        ("part", OfPart | None),
        ("part", OfPartWithADefault),
        ("part", Part),
        ("part", Nothing),
        ("part", Mapping[str, str | int | None]),
        ("part", Any),
        ("parts", Sequence[OfPart]),
        ("parts", tuple[OfPart, ...]),
        ("named", Mapping[str, OfPart]),
        ("texts", Mapping[str, str]),
        ("texts", Mapping[Sku, str]),
        ("tree", Leaf),
        ("size", str),
        ("size", Literal["small", "large", "huge"]),
        ("small", Literal["small", "large"]),
        ("small", str),
        ("day", str),
        ("anything", Mapping[str, Any]),
        ("pair", tuple[int | str, ...]),
        ("maybe", OfPart),
        ("perhaps", int),
        ("perhaps", Optional[int]),  # noqa: UP045 it has another origin
    ],
)
def test_what_fits_by_name_and_type_is_taken(name: str, wanted: Any) -> None:
    saga = declare(asking(**{name: wanted}), [name])
    assert saga.by_name["grab"].takes == [name]


@pytest.mark.parametrize(
    ("ask", "takes", "message"),
    [
        # By name.
        (asking(number=int), [], r"it must take 'number', which Ask of .*:hold has no default for"),
        (asking(number=int), ["sure"], "it takes 'sure', and there is no such field in Ask of"),
        (Nothing, ["number"], "it takes 'number', and there is no such field in Nothing of"),
        # By type.
        (
            asking(number=str),
            ["number"],
            "must fit Ask of shop.asking:hold: number must be str, got",
        ),
        (asking(number=bool), ["number"], "number must be bool, got int"),
        (asking(sure=int), ["sure"], "sure must be int, got bool"),
        (asking(number=None), ["number"], "number must be None, got int"),
        (asking(number=Literal[1, 2]), ["number"], r"number must be Literal\[1, 2\], got int"),
        (asking(size=Literal["small"]), ["size"], "size must be Literal"),
        (asking(small=Literal["large"]), ["small"], "small must be Literal"),
        (asking(day=int), ["day"], "day must be int, got date"),
        (asking(part=str), ["part"], "part must be str, got Part"),
        (asking(number=OfPart), ["number"], "number must be OfPart, got int"),
        (asking(texts=OfPart), ["texts"], r"texts must be OfPart, got dict\[str, str\]"),
        (asking(anything=OfPart), ["anything"], "anything must be OfPart, got dict"),
        (asking(parts=Sequence[str]), ["parts"], r"parts\.\* must be str, got Part"),
        (asking(parts=OfPart), ["parts"], "parts must be OfPart, got list"),
        (asking(part=Sequence[str]), ["part"], "part must be .*Sequence.*, got Part"),
        (asking(texts=Mapping[str, int]), ["texts"], r"texts\.\* must be int, got str"),
        (asking(anything=Mapping[str, str]), ["anything"], r"anything\.\* must be str, got Any"),
        (asking(pair=Sequence[int]), ["pair"], r"pair\.1 must be int, got str"),
        # Within.
        (asking(part=OfPartWithNote), ["part"], r"part\.note must be str, got str \| None"),
        (asking(part=OfPartWithNote | None), ["part"], r"part\.note must be str, got str \| None"),
        (
            asking(part=OfPartWithColour),
            ["part"],
            r"part\.colour must be there, .* Part has no",
        ),
        (asking(parts=Sequence[OfPartWithNote]), ["parts"], r"parts\.\*\.note must be str"),
        (asking(named=Mapping[str, OfPartWithNote]), ["named"], r"named\.\*\.note must be str"),
        (asking(part=Mapping[str, str]), ["part"], r"part\.count must be str, got int"),
        (asking(tree=NumberedLeaf), ["tree"], r"tree\.name must be int, got str"),
        # What may be None, and does not leave the step out.
        (
            asking(maybe=OfPart, number=int),
            ["maybe", "number"],
            r"maybe must be OfPart, got Part \| None",
        ),
        (
            asking(maybe=[OfPart | None], perhaps=int),
            ["maybe", "perhaps"],
            r"perhaps must be int, got int \| None",
        ),
        # What no request can make.
        (int, [], "must be a class made by @dataclass.*got int"),
        (5, [], "must be a class made by @dataclass.*got an instance of int"),
        (Nothing(), [], "must be a class made by @dataclass.*got an instance of Nothing"),
        (Loose, [], "must be a class made by @dataclass.*frozen=True.*got Loose"),
        (WithLoose, [], "must be a class made by @dataclass.*frozen=True.*got Loose"),
        (asking(parts=list[OfPart]), ["parts"], r"Ask\.parts must be .* got list\[.*write tuple\["),
        (asking(texts=dict[str, str]), ["texts"], r"Ask\.texts must be .* got dict\[str, str\]"),
        (asking(number=float), ["number"], r"Ask\.number must be .* got float"),
        (asking(day=date), ["day"], r"Ask\.day must be .* got date"),
        (asking(size=Size), ["size"], r"Ask\.size must be .* got Size"),
        (asking(part="NoSuchThing"), ["part"], r"types of Ask cannot be resolved.*NoSuchThing"),
    ],
)
def test_what_does_not_fit_is_refused_with_step_saga_and_field(
    ask: Any, takes: list[str], message: str
) -> None:
    with pytest.raises(DeclarationError, match=rf"^step 'grab' of 'shop': .*{message}"):
        declare(ask, takes)


def test_an_undo_may_be_asked_too_and_it_fits_or_is_refused() -> None:
    declare(Nothing, ["number"], undo_ask=asking(number=int))
    declare(asking(number=int), ["number"], undo_ask=asking(sure=[bool | None]))
    for ask, message in (
        (asking(number=str), "Ask of shop.asking:release: number must be str, got int"),
        (asking(sure=bool), "it must take 'sure', which Ask of shop.asking:release"),
        (Loose, "what shop.asking:release is asked cannot be made"),
    ):
        with pytest.raises(DeclarationError, match=rf"^step 'grab' of 'shop': .*{message}"):
            declare(asking(number=int), ["number"], undo_ask=ask)


# What fits can be made, whatever the request is.

NAMES = ("a", "b", "c")
PLAIN: st.SearchStrategy[Any] = st.sampled_from(
    [str, int, bool, Literal["x", "y"], Literal[1, None]]
)


def classes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def made(parts: dict[str, tuple[Any, bool]]) -> Any:
        found = [
            (name, hint | None if optional else hint, field(default=None) if optional else field())
            for name, (hint, optional) in parts.items()
        ]
        return make_dataclass("Of", found, frozen=True, kw_only=True)

    return st.dictionaries(st.sampled_from(NAMES), st.tuples(inner, st.booleans())).map(made)


GIVEN = st.recursive(
    PLAIN,
    lambda inner: (
        classes(inner)
        | inner.map(lambda one: GenericAlias(list, one))
        | inner.map(lambda one: GenericAlias(dict, (str, one)))
        | st.tuples(inner, inner).map(lambda two: Union[two])  # noqa: UP007
    ),
    max_leaves=4,
)
WANTED = st.recursive(
    PLAIN | st.just(Any),
    lambda inner: (
        classes(inner)
        | inner.map(lambda one: GenericAlias(tuple, (one, ...)))
        | inner.map(lambda one: GenericAlias(Mapping, (str, one)))
        | st.tuples(inner, inner).map(lambda two: Union[two])  # noqa: UP007
    ),
    max_leaves=4,
)


def likely(hint: Any) -> st.SearchStrategy[Any]:
    """Types of an ask, those among them that come near to one in a request."""
    return st.just(_as_asked(hint)) | WANTED


def _as_asked(hint: Any) -> Any:
    origin, of = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        some = [(one.name, _as_asked(one.type), one) for one in fields(hint)]
        return make_dataclass(
            "Asked",
            [(n, t, field(default=None) if o.default is None else field()) for n, t, o in some[:2]],
            frozen=True,
            kw_only=True,
        )
    if origin is list:
        return GenericAlias(tuple, (_as_asked(of[0]), ...))
    if origin is dict:
        return GenericAlias(Mapping, (str, _as_asked(of[1])))
    if origin in (Union, UnionType):
        return Union[tuple(map(_as_asked, of))]  # noqa: UP007
    return hint


def values(hint: Any) -> st.SearchStrategy[Any]:
    """JSON of a type, as a caller may send it: what has a default may be missing."""
    origin, of = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        required = {one.name: values(one.type) for one in fields(hint) if one.default is not None}
        optional = {one.name: values(one.type) for one in fields(hint) if one.default is None}
        return st.fixed_dictionaries(required, optional=optional)
    if origin is list:
        return st.lists(values(of[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(st.text(max_size=2), values(of[1]), max_size=3)
    if origin in (Union, UnionType):
        return st.one_of(*map(values, of))
    if origin is Literal:
        return st.sampled_from(of)
    plain = {str: st.text(max_size=3), int: st.integers(-9, 9), bool: st.booleans()}
    return plain.get(hint, st.none())


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_what_fits_can_always_be_made(data: st.DataObject) -> None:
    has = data.draw(GIVEN)
    wanted = data.draw(likely(has))
    assume(misfit(has, wanted, "field") is None)
    model: Any = request_model(make_dataclass("Model", [("field", has)]))
    sent = json.dumps({"field": data.draw(values(has))})
    adapter: Any = TypeAdapter(model)
    body = adapter.dump_python(adapter.validate_json(sent), mode="json")
    ask = make_dataclass("Ask", [("field", wanted)], frozen=True)
    frozen(make(ask, body).field)


def frozen(value: Any) -> None:
    """Hold a value to be one that cannot be changed."""
    if is_dataclass(value):
        for one in fields(value):
            frozen(getattr(value, one.name))
    elif isinstance(value, tuple):
        for part in value:
            frozen(part)
    elif isinstance(value, MappingProxyType):
        for part in value.values():
            frozen(part)
    else:
        assert isinstance(value, str | int | NoneType), value


OF: Any = make_dataclass("Of", [("a", int), ("b", str | None, field(default=None))])


@pytest.mark.parametrize("hint", [str | int, OF, list[OF], dict[str, OF | int]])
def test_the_types_of_a_request_are_met_by_the_property(hint: Any) -> None:
    """It would prove nothing if no pair that it draws did fit."""
    assert misfit(hint, _as_asked(hint), "field") is None
