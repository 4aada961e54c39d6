"""The authorizer of the WebSocket API's `$connect`.

The bearer token comes in the header Authorization, or, since browsers cannot send that one, as the
second subprotocol: `["recourse.v1", "bearer.<token>"]`.
"""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger

from recourse.errors import RecourseError
from recourse.functions import kit
from recourse.functions.bearer import ForbiddenError, UnauthorizedError, in_header
from recourse.functions.handshake import header, subprotocols

logger = Logger()


class RefusedError(RecourseError):
    """What API Gateway answers as a 401; its text must be exactly this."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Authorise the caller, as the owner of the events that it will receive, or refuse.

    Raises:
        RefusedError: There is no valid token: 401. A token without the scope is a 403.
    """
    try:
        who = kit.bearers().verify(bearer(event), "sagas:read")
    except UnauthorizedError as problem:
        logger.info("refused", extra={"reason": str(problem)})
        raise RefusedError from None
    except ForbiddenError:
        return _decision("nobody", "Deny", event)
    about = {"owner": who.subject, "until": str(who.until)}
    return _decision(who.subject, "Allow", event) | {"context": about}


def bearer(event: dict[str, Any]) -> str | None:
    """The token of a handshake."""
    if (token := in_header(header(event, "authorization"))) is not None:
        return token
    offered = [one for one in subprotocols(event) if one.startswith("bearer.")]
    return offered[0].removeprefix("bearer.") if offered else None


def _decision(principal: str, effect: str, event: dict[str, Any]) -> dict[str, Any]:
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": event["methodArn"]}
    return {
        "principalId": principal,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
    }
