"""The services' holdings in the API: callers read them, operators write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from aws_lambda_powertools.event_handler import Response

from recourse.errors import ContentionError
from recourse.functions import kit
from recourse.functions.api import http
from recourse.functions.api.routes import Answer, Operation, Parameter, Routes, Sample
from recourse.problems import ProblemError, invalid
from recourse.store.table import Table
from recourse.text import LONGEST_ID, flaw_of_id
from services.holdings import HOLDINGS, Holding

routes = Routes("Holdings", "What the services hold, and how much of it is free")


def _seeded(kind: str, pick: Callable[[dict[str, Any]], Iterable[Any]]) -> Sample:
    """An example from the seed: the id or the body of the first holding of a kind."""
    return Sample("seed.json", lambda seed: next(iter(pick(seed.get(kind, {}))), None))


def _id(kind: str) -> Parameter:
    example = _seeded(kind, dict.keys)
    return Parameter("id", "the id", where="path", required=True, example=example)


def _table(holding: Holding) -> Table:
    return Table(kit.dynamodb(), kit.parameters("tables")[holding.service])


def _serve(kind: str, holding: Holding) -> None:
    """Add the routes of a kind of holding."""

    @routes.get(
        f"/{kind}/<id>",
        Operation(
            f"show-{holding.noun}",
            f"Show one of the {kind}",
            scope="sagas:read",
            parameters=[_id(kind)],
            answers=[Answer(200, "its current state", holding.shown)],
            problems=["not-found"],
        ),
    )
    def show_holding(id: str) -> Response[str]:
        """Show a holding of a service; one that has an owner, to no other."""
        who = http.caller(routes.current_event, "sagas:read")
        row = _table(holding).get(holding.key(id)) if len(id) <= LONGEST_ID else None
        if row is None or not who.owns(row.get("owner", who.subject)):
            raise ProblemError("not-found", f"there is no {holding.noun} {id!r}")
        return http.answer(200, holding.show(row))

    @routes.put(
        f"/{kind}/<id>",
        Operation(
            f"put-{holding.noun}",
            f"Create or update one of the {kind}",
            scope="operator",
            parameters=[_id(kind)],
            takes=holding.body,
            example=_seeded(kind, dict.values),
            answers=[
                Answer(200, "updated", holding.shown),
                Answer(201, "created", holding.shown),
            ],
            problems=["not-found", "in-use"],
        ),
    )
    def put_holding(id: str) -> Response[str]:
        """Create or update a holding, as an operator."""
        http.caller(routes.current_event, "operator")
        if flaw := flaw_of_id(id):
            raise invalid("id", flaw)
        body = http.body(routes.current_event, holding.body)
        table = _table(holding)

        def attempt() -> bool:
            row = table.get(holding.key(id))
            writes = holding.change(id, row, body)
            if writes is None:
                raise ProblemError(
                    "in-use",
                    "it has more held or confirmed than that, or another currency",
                )
            table.transact([table.write_request(one) for one in writes])
            return row is None

        try:
            is_new = table.retry(attempt, what=f"{holding.noun} {id!r}")
        except ContentionError:
            raise ProblemError("try-again", "other callers keep changing it") from None
        shown = holding.show(table.get(holding.key(id)) or {})
        return http.answer(201 if is_new else 200, shown)


for kind, holding in HOLDINGS.items():
    _serve(kind, holding)
