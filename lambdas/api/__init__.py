"""The HTTP API: what every deployment has of it, and what this one's services hold."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from botocore.exceptions import BotoCoreError, ClientError

from lambdas.api import about, deadletters, events, holdings, http, redeem, sagas, valet, webhooks
from recourse.errors import TransientError
from recourse.problems import ProblemError
from recourse.store.aws import is_transient

INFO = {
    "title": "Recourse",
    "version": about.VERSION,
    "description": "Sagas that end as booked or as if they had never been.",
}
GROUPS = (
    sagas.routes,
    events.routes,
    deadletters.routes,
    valet.routes,
    redeem.routes,
    webhooks.routes,
    about.routes,
    holdings.routes,  # the last: its paths may be any
)
app = APIGatewayHttpResolver()
for group in GROUPS:
    app.include_router(group.router)
logger = Logger()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request."""
    return app.resolve(event, context)


@app.exception_handler(ProblemError)
def _problem(error: ProblemError) -> Response[str]:
    return http.problem(error)


@app.exception_handler([TransientError, BotoCoreError])
def _try_again(error: Exception) -> Response[str]:
    logger.warning(str(error))
    return http.problem(ProblemError("try-again", "it may work in a moment"))


@app.exception_handler(ClientError)
def _refused(error: ClientError) -> Response[str]:
    """AWS refused a call: busy, or asked wrongly."""
    answer: Response[str] = _try_again(error) if is_transient(error) else _internal(error)
    return answer


@app.exception_handler(Exception)
def _internal(error: Exception) -> Response[str]:
    logger.exception("not foreseen")
    return http.problem(ProblemError("internal", "the log has what happened"))


@app.not_found
def _not_found(error: Exception) -> Response[str]:
    return http.problem(ProblemError("not-found", f"nothing is at {app.current_event.path}"))
