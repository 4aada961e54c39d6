"""The services' holdings in the API: callers read them, operators write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import Response

from recourse.declare.step import Item
from recourse.errors import ContentionError
from recourse.functions import kit
from recourse.functions.api import http
from recourse.functions.api.routes import Answer, Operation, Parameter, Routes, Sample
from recourse.problems import ProblemError, invalid
from recourse.store.table import Table
from services.holdings import HOLDINGS
from statemachines.fields import is_id

LONGEST_ID = 128
routes = Routes("Holdings", "What the services hold, and how much of it is free")


def _seeded(kind: str, pick: Callable[[dict[str, Any]], Iterable[Any]]) -> Sample:
    """An example from the seed: the id or the body of the first holding of a kind."""
    return Sample("seed.json", lambda seed: next(iter(pick(seed.get(kind, {}))), None))


def _id(kind: str) -> Parameter:
    example = _seeded(kind, dict.keys)
    return Parameter("id", "the id", where="path", required=True, example=example)


def _table(kind: str) -> Table:
    return Table(kit.dynamodb(), kit.service_tables()[HOLDINGS[kind].service])


def _row(kind: str, thing: str) -> Item | None:
    return _table(kind).get(HOLDINGS[kind].key(thing))


def _holding(kind: str) -> None:
    if kind not in HOLDINGS:
        raise ProblemError("not-found", f"there is no route {routes.current_event.path}")


@routes.get(
    "/<kind>/<thing>",
    *(
        Operation(
            f"show-{holding.noun}",
            f"Show one of the {kind}",
            path=f"/{kind}/{{id}}",
            scope="sagas:read",
            parameters=[_id(kind)],
            answers=[Answer(200, "its current state", holding.shown)],
            problems=["not-found"],
        )
        for kind, holding in HOLDINGS.items()
    ),
)
def show_holding(kind: str, thing: str) -> Response[str]:
    """Show a holding of a service."""
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
            f"Create or update one of the {kind}",
            path=f"/{kind}/{{id}}",
            scope="operator",
            parameters=[_id(kind)],
            takes=holding.body,
            example=_seeded(kind, dict.values),
            answers=[
                Answer(200, "updated", holding.shown),
                Answer(201, "created", holding.shown),
            ],
            problems=["not-found", "in-use"],
        )
        for kind, holding in HOLDINGS.items()
    ),
)
def put_holding(kind: str, thing: str) -> Response[str]:
    """Create or update a holding, as an operator."""
    http.caller(routes.current_event, "operator")
    _holding(kind)
    thing = unquote(thing)
    if not is_id(thing) or len(thing) > LONGEST_ID:
        raise invalid(
            "id", f"must have at most {LONGEST_ID} characters, and no space, slash or number sign"
        )
    holding = HOLDINGS[kind]
    body = http.body(routes.current_event, holding.body)
    table = _table(kind)

    def attempt() -> bool:
        row = _row(kind, thing)
        writes = holding.change(thing, row, body)
        if writes is None:
            raise ProblemError(
                "in-use",
                "it has more held or confirmed than that, or another currency",
            )
        table.transact([table.write_request(one) for one in writes])
        return row is None

    try:
        is_new = table.retry(attempt, what=f"{holding.noun} {thing!r}")
    except ContentionError:
        raise ProblemError("try-again", "other callers keep changing it") from None
    return http.answer(201 if is_new else 200, holding.show(_row(kind, thing) or {}))
