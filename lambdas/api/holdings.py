"""What this deployment's services hold, through the API: anybody looks, an operator puts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import Response
from typing_extensions import TypedDict

from lambdas import kit
from lambdas.api import http
from lambdas.api.routes import Answer, Operation, Parameter, Routes, Sample
from recourse.problems import ProblemError, invalid
from recourse.step import Item
from recourse.store.items import decode_item, request
from services.holdings import HOLDINGS, AccountBody, CountedBody
from statemachines.fields import is_id

PUT_TRIES = 10
LONGEST_ID = 128
routes = Routes("Holdings", "What the services hold, and what of it is free")


class _Money(TypedDict):
    amount: int
    currency: str


class CountedView(TypedDict):
    """A counted thing: `total` is `available`, `held` and `confirmed` together."""

    id: str
    total: int
    available: int
    held: int
    confirmed: int
    price: _Money


class AccountView(TypedDict):
    """An account: its `balance` includes what is held."""

    id: str
    currency: str
    balance: int
    available: int
    held: int


SHOWN = {CountedBody: CountedView, AccountBody: AccountView}
"""How what was put by a body is shown."""


def _seeded(kind: str, pick: Callable[[dict[str, Any]], Iterable[Any]]) -> Sample:
    """The first of a kind that the seed has, or what it is there."""
    return Sample("seed.json", lambda seed: next(iter(pick(seed.get(kind, {}))), None))


def _id(kind: str) -> Parameter:
    example = _seeded(kind, dict.keys)
    return Parameter("id", "the id", where="path", required=True, example=example)


def _row(kind: str, thing: str) -> Item | None:
    holding = HOLDINGS[kind]
    got = kit.dynamodb().get_item(
        TableName=kit.service_tables()[holding.service],
        Key={"pk": {"S": holding.key(thing)}},
        ConsistentRead=True,
    )
    return decode_item(got["Item"]) if "Item" in got else None


def _holding(kind: str) -> None:
    if kind not in HOLDINGS:
        raise ProblemError("not-found", f"nothing is at {routes.current_event.path}")


@routes.get(
    "/<kind>/<thing>",
    *(
        Operation(
            f"show-{holding.noun}",
            f"Show one of the {kind}",
            path=f"/{kind}/{{id}}",
            scope="sagas:read",
            parameters=[_id(kind)],
            answers=[Answer(200, "as it is now", SHOWN[holding.body])],
            problems=["not-found"],
        )
        for kind, holding in HOLDINGS.items()
    ),
)
def show_holding(kind: str, thing: str) -> Response[str]:
    """Show a thing that a service holds."""
    http.caller(routes.current_event, "sagas:read")
    _holding(kind)
    thing = unquote(thing)
    row = _row(kind, thing) if len(thing) <= LONGEST_ID else None
    if row is None:
        raise ProblemError("not-found", f"there is no {HOLDINGS[kind].noun} {thing!r}")
    return http.answer(200, HOLDINGS[kind].show(row))


@routes.put(
    "/<kind>/<thing>",
    *(
        Operation(
            f"put-{holding.noun}",
            f"Make or change one of the {kind}",
            path=f"/{kind}/{{id}}",
            scope="operator",
            parameters=[_id(kind)],
            takes=holding.body,
            example=_seeded(kind, dict.values),
            answers=[
                Answer(200, "changed", SHOWN[holding.body]),
                Answer(201, "made", SHOWN[holding.body]),
            ],
            problems=["not-found", "in-use"],
        )
        for kind, holding in HOLDINGS.items()
    ),
)
def put_holding(kind: str, thing: str) -> Response[str]:
    """Make a thing as the body says, or change it, as an operator."""
    http.caller(routes.current_event, "operator")
    _holding(kind)
    thing = unquote(thing)
    if not is_id(thing) or len(thing) > LONGEST_ID:
        raise invalid(
            "id", f"should have at most {LONGEST_ID} characters, no space, slash or number sign"
        )
    holding = HOLDINGS[kind]
    body = http.body(routes.current_event, holding.body)
    table = kit.service_tables()[holding.service]
    dynamodb = kit.dynamodb()
    for _ in range(PUT_TRIES):
        row = _row(kind, thing)
        writes = holding.change(thing, row, body)
        if writes is None:
            raise ProblemError("in-use", "what is held and confirmed, or its currency, forbids it")
        try:
            dynamodb.transact_write_items(TransactItems=[request(table, one) for one in writes])
        except dynamodb.exceptions.TransactionCanceledException:
            continue
        return http.answer(200 if row else 201, holding.show(_row(kind, thing) or {}))
    raise ProblemError("try-again", "others keep changing it")
