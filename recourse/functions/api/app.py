"""The HTTP API as a deployment composes it.

A path is exact: with a slash more at its end it is another one, a 404. A path that there is answers
methods that it has not, OPTIONS among them, with a 405 whose header Allow says which it has. CORS
is not the function's: API Gateway answers preflights itself (`recourse.cdk.http_api`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from botocore.exceptions import BotoCoreError, ClientError

from recourse.errors import TransientError
from recourse.functions.api import (
    about,
    deadletters,
    decisions,
    events,
    http,
    imports,
    redeem,
    sagas,
    valet,
    webhooks,
)
from recourse.functions.api.routes import Routes
from recourse.problems import ProblemError
from recourse.store.aws import is_transient

logger = Logger()
ROUTED = "/%-._~()'!*:@,;=+&$<> []{}|^"
"""What the router matches in a path besides letters and digits; all else it does not find."""


class Api:
    """The routes that every deployment has, and those of one.

    ::

        API = Api(
            {"title": "Shop", "version": "1.2.0", "description": "Orders."},
            Path(__file__).with_name("openapi.json"),
            own=[stock.routes],
        )
        handler = API.handler

    `[tool.recourse] api = "my.module:API"` tells `recourse compile` where it is.

    Args:
        info: Its title, version and description.
        description: The file that `recourse compile` writes, and that `GET /openapi.json` answers.
        own: The deployment's own routes; they come after the library's, so their paths may be any.
            Only those of questions come later: what these are called follows from the sagas.

    Attributes:
        app: What answers.
        groups: All the routes.
        info: As above.
        description: As above.
    """

    def __init__(
        self, info: Mapping[str, str], description: Path, own: Sequence[Routes] = ()
    ) -> None:
        self.info = info
        self.description = description
        self.groups = (
            sagas.routes,
            events.routes,
            deadletters.routes,
            valet.routes,
            redeem.routes,
            imports.routes,
            webhooks.routes,
            about.routes(info["version"], description, self._lacks),
            *own,
            decisions.routes,
        )
        self.app = APIGatewayHttpResolver()
        for group in self.groups:
            self.app.include_router(group.router)
        self.app.exception_handler(ProblemError)(http.problem)
        self.app.exception_handler([TransientError, BotoCoreError])(_try_again)
        self.app.exception_handler(ClientError)(_refused)
        self.app.exception_handler(Exception)(_internal)
        self.app.not_found(self._not_found)

    def handler(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Answer one request."""
        # API Gateway hands a path on decoded, but for percent signs: it is routed encoded.
        path = quote(event["rawPath"].encode(errors="surrogatepass"), safe=ROUTED)
        answer = self.app.resolve(event | {"rawPath": path}, context)
        if event["requestContext"]["http"]["method"] == "HEAD":
            answer |= {"body": "", "isBase64Encoded": False}
        return answer

    def _lacks(self) -> list[str]:
        return [one.tag for one in self.groups if one.is_missing]

    def _not_found(self, error: Exception) -> Response[str]:
        method, path = self.app.current_event.http_method, self.app.current_event.path
        allowed = ", ".join(sorted(set().union(*(one.methods(path) for one in self.groups))))
        if not allowed:
            return http.problem(ProblemError("not-found", f"there is no route {path}"))
        refusal = ProblemError("not-allowed", f"{path} answers {allowed}, got {method}")
        return http.problem(refusal, {"allow": allowed})


def _try_again(error: Exception) -> Response[str]:
    logger.warning(str(error))
    return http.problem(ProblemError("try-again", "temporarily unavailable: retry in a moment"))


def _refused(error: ClientError) -> Response[str]:
    """AWS refused a call: it is busy, or the call was wrong."""
    return _try_again(error) if is_transient(error) else _internal(error)


def _internal(error: Exception) -> Response[str]:
    logger.exception("unexpected error")
    return http.problem(ProblemError("internal", "the log has the details"))
