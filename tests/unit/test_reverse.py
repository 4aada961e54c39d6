"""What a saga names to reverse it: it is made of that saga, or refused when they are listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NotRequired, TypedDict

import pytest

from recourse.declare.asks import AskError
from recourse.declare.declaration import Step
from recourse.declare.request import request_model
from recourse.declare.reverse import request_of, reversed_by
from recourse.declare.saga import Saga, collect
from recourse.declare.shape import digest, read, record
from recourse.declare.step import Call, Decision, action, undo
from recourse.errors import DeclarationError
from recourse.upgrade.takeover import Release, answer


class Held(TypedDict):
    hold_id: str
    lots: list[dict[str, int]]
    note: NotRequired[str]


@request_model
class SaleRequest:
    sale_id: str
    item: str
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class NoteAsk:
    note: str


@action()
def hold(call: Call) -> Decision[Held]:
    return Decision()


@undo()
def release(call: Call) -> Decision:
    return Decision()


@action(NoteAsk)
def jot(call: Call[NoteAsk]) -> Decision[Held]:
    return Decision()


@undo()
def erase(call: Call) -> Decision:
    return Decision()


@action()
def pay(call: Call) -> Decision:
    return Decision()


@action()
def send(call: Call) -> Decision[Held]:
    return Decision()


@action()
def give(call: Call) -> Decision:
    return Decision()


@dataclass(frozen=True, kw_only=True)
class Hold:
    hold_id: str


STEPS = [
    Step("hold", hold, undo=release),
    Step("jot", jot, undo=erase, takes=["note"]),
    Step("pay", pay, pivot=True),
    Step("send", send),
]
SALE = Saga("sale", request=SaleRequest, business_key="sale_id", steps=STEPS, reverse="return")


@request_model
class ReturnRequest:
    sale_id: str
    reverses: str
    hold: Hold
    reason: str | None = None
    note: str | None = None
    jot: Hold | None = None
    send: Hold | None = None


def returning(request: type = ReturnRequest, **more: Any) -> Saga:
    steps = [Step("give", give, pivot=True)]
    return Saga("return", request=request, business_key="sale_id", steps=steps, **more)


def lots(**fields: Any) -> type:
    """A request of the return with other fields too; defaults are None."""
    own = {name: None for name, hint in fields.items() if "None" in str(hint)}
    annotations = {"sale_id": str, **fields}
    return request_model(type("Other", (), {"__annotations__": annotations, **own}))


def test_it_is_made_of_the_id_the_reason_the_request_and_the_results() -> None:
    assert collect(SALE, returning()) == {"sale": SALE, "return": returning()}
    held = {"hold_id": "h-1", "lots": [{"size": 1}]}
    made = request_of(
        returning(),
        SALE,
        saga_id="s-1",
        reason="torn",
        request={"sale_id": "1", "item": "tea", "note": None},
        results={"hold": held, "send": held},
    )
    assert made == {
        "sale_id": "1",
        "reverses": "s-1",
        "hold": {"hold_id": "h-1"},
        "reason": "torn",
        "note": None,
        "jot": None,
        "send": {"hold_id": "h-1"},
    }


@pytest.mark.parametrize(
    ("request_", "results", "named"),
    [
        ({"sale_id": "1"}, {}, "hold"),
        ({"sale_id": "1"}, {"hold": {}}, "hold.hold_id"),
        ({"sale_id": "1"}, {"hold": {"hold_id": 7}}, "hold.hold_id"),
        ({}, {"hold": {"hold_id": "h"}}, "sale_id"),
    ],
)
def test_what_an_earlier_declaration_has_not_is_named(
    request_: Mapping[str, Any], results: Mapping[str, Any], named: str
) -> None:
    with pytest.raises(AskError, match=named):
        request_of(returning(), SALE, saga_id="s", reason=None, request=request_, results=results)


@pytest.mark.parametrize("reverse", ["", "Return", "a b", 7, ["return"], SALE])
def test_it_is_a_name(reverse: Any) -> None:
    with pytest.raises(DeclarationError, match="'sale': reverse must be the name of another saga"):
        replace(SALE, reverse=reverse)


@pytest.mark.parametrize(
    ("sagas", "message"),
    [
        ([SALE], r"'sale': its reverse must be one of the sagas beside it, got 'return'"),
        ([replace(SALE, reverse="sale")], r"'sale': its reverse is itself"),
        (
            [SALE, returning(reverse="sale")],
            r"'sale': its reverse 'return' must have none itself, got 'sale'",
        ),
        (
            [SALE, returning(reverse="return")],
            r"'sale': its reverse 'return' must have none itself, got 'return'",
        ),
    ],
)
def test_what_cannot_reverse_is_refused(sagas: Sequence[Saga], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        collect(*sagas)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"colour": str}, "has a field 'colour', which is neither a step of it"),
        ({"item": int}, "must fit Other of its reverse 'return': item must be int, got str"),
        ({"note": str}, r"note must be str, got str \| None"),
        ({"reverses": int}, "reverses must be int, got str"),
        ({"reason": str}, r"reason must be str, got str \| None"),
        ({"hold": str}, "hold must be str, got Held"),
        ({"jot": Hold}, r"jot must be Hold, got Held \| None"),
        ({"send": Hold}, r"send must be Hold, got Held \| None"),
        ({"pay": Hold}, r"what step 'pay' returns, and .*:pay does not say what"),
        ({"hold": list[str]}, "write tuple"),
    ],
)
def test_a_request_that_could_not_be_made_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message) as refused:
        collect(SALE, returning(lots(**fields)))
    assert str(refused.value).startswith("saga 'sale': ")


@dataclass(frozen=True, kw_only=True)
class Noted:
    note: str


@dataclass(frozen=True, kw_only=True)
class Lots:
    lots: tuple[Mapping[str, int], ...]
    note: str | None = None


class Unresolved(TypedDict):
    hold_id: "NoSuchThing"  # type: ignore[name-defined]  # noqa: F821, UP037


class Within(TypedDict):
    lots: list[Unresolved]


@action()
def unresolved(call: Call) -> Decision[Unresolved]:
    return Decision()


@action()
def within(call: Call) -> Decision[Within]:
    return Decision()


@action()
def unnamed(call: Call) -> Decision[NoSuchThing]:  # type: ignore[name-defined]  # noqa: F821
    return Decision()


@pytest.mark.parametrize(
    ("holding", "of"), [(unresolved, "Unresolved"), (within, "Unresolved"), (unnamed, "unnamed")]
)
def test_a_result_that_names_a_type_that_is_not_there_is_refused_with_both_names(
    holding: Any, of: str
) -> None:
    sale = replace(SALE, steps=[Step("hold", holding, undo=release), *STEPS[1:]])
    said = rf"^saga 'sale': .* step 'hold' returns, .*types of {of} cannot be resolved.*NoSuchThing"
    with pytest.raises(DeclarationError, match=said):
        collect(sale, returning(lots(hold=Hold)))


def test_what_a_result_may_lack_is_not_taken_for_granted() -> None:
    collect(SALE, returning(lots(hold=Lots)))
    with pytest.raises(DeclarationError, match=r"hold\.note must be there, .* Held may lack it"):
        collect(SALE, returning(lots(hold=Noted)))


def test_a_reverse_knows_what_it_reverses_and_may_do_so_for_several() -> None:
    other = replace(SALE, name="auction")
    sagas = collect(SALE, other, returning())
    assert reversed_by(sagas) == {"return": [SALE, other]}


def test_a_shape_has_it_and_others_are_as_they_were() -> None:
    recorded = record(SALE)
    assert recorded["reverse"] == "return" and read(recorded).reverse == "return"
    alone = record(replace(SALE, reverse=None))
    assert "reverse" not in alone and read(alone).reverse is None
    assert digest(alone) != digest(recorded) == digest(record(read(recorded)))


def looked_at(before: Saga, *now: Saga) -> list[str]:
    """What a release says of sagas that began by an earlier declaration."""
    found = Release(collect(*now), [read(record(before))]).findings(read(record(before)))
    assert answer(found) in ("safe", "look"), "nothing in flight strands by it"
    return [str(one) for one in found]


def test_a_release_says_which_sagas_at_rest_it_cannot_reverse() -> None:
    assert looked_at(SALE, SALE, returning()) == []
    assert looked_at(replace(SALE, reverse=None), SALE, returning()) == []
    assert looked_at(replace(SALE, reverse=None), replace(SALE, reverse=None)) == []
    (gone,) = looked_at(SALE, replace(SALE, reverse=None))
    assert "was to be reversed by return, and nothing is declared for it now" in gone
    assert "'every step done', it could not be reversed" in gone
    (retired,) = looked_at(SALE, returning())
    assert "nothing is declared for it now" in retired
    without = replace(SALE, steps=[one for one in STEPS if one.name != "hold"])
    (lacking,) = looked_at(without, SALE, returning())
    assert "takes what step 'hold' returns, which this shape does not have" in lacking


@request_model
class EarlierRequest:
    sale_id: str
    item: str
    note: int | None = None


@dataclass(frozen=True, kw_only=True)
class EitherAsk:
    note: str | int


@action(EitherAsk)
def jot_either(call: Call[EitherAsk]) -> Decision[Held]:
    return Decision()


def test_a_release_says_which_field_of_a_request_its_reverse_takes_otherwise() -> None:
    jotting = replace(STEPS[1], action=jot_either)
    steps = [jotting if one.name == "jot" else one for one in STEPS]
    before = replace(SALE, request=EarlierRequest, steps=steps, reverse=None)
    (other,) = looked_at(before, replace(SALE, steps=steps), returning())
    assert "takes something else by now: note must be str | None, got int | None" in other
