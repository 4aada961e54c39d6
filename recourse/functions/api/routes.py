"""Routes that describe themselves: what each takes, answers and refuses stands beside it.

::

    routes = Routes("Webhooks", "One's own endpoints, to which events are pushed")

    @routes.get(
        "/webhooks/<webhook_id>",
        Operation(
            "show-webhook",
            "Show a webhook",
            scope="sagas:read",
            answers=[Answer(200, "the webhook", WebhookView)],
            problems=["not-found"],
        ),
    )
    def show(webhook_id: str) -> Response[str]: ...

It is plain data, cheap to create when a function starts; `openapi` makes the description of it when
the project is built. What depends on the sagas is a function of them, which is called then.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from typing_extensions import TypedDict

from recourse.problems import ProblemError

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

    from recourse.declare.saga import Saga

Method = Literal["GET", "POST", "PUT", "DELETE"]
Handler = TypeVar("Handler", bound=Callable[..., Response[str]])
View = TypeVar("View")
TEXT: Mapping[str, Any] = {"type": "string"}
FAILURES = ("internal", "try-again")
"""What any call may meet that asks AWS for something; those with a scope have it without a word."""


class Page(TypedDict, Generic[View]):
    """A page of a list, and the cursor of the next; null where there is none."""

    items: list[View]
    cursor: str | None


class OneOf(NamedTuple):
    """Says in the description of a text what it is one of: `Annotated[str, OneOf(["a", "b"])]`."""

    allowed: Collection[str]

    def __get_pydantic_json_schema__(self, core: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(core) | {"enum": list(self.allowed)}


SAGA_NAMES = "the names of the sagas"
"""Stands in a schema where the description lists them."""


class SagaName(NamedTuple):
    """Says in the description of a text that it names a saga: `Annotated[str, SagaName()]`."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(core) | {"enum": SAGA_NAMES}


class Sample(NamedTuple):
    """An example that lies among the samples, and is read when the description is made.

    Attributes:
        file: The name of its file.
        pick: Takes it out of what the file has; None where it has none.
    """

    file: str
    pick: Callable[[Any], Any] = lambda whole: whole

    def read(self, samples: Path) -> Any:
        """It, or None where there is none."""
        file = samples / self.file
        return self.pick(json.loads(file.read_text("utf-8"))) if file.exists() else None


class Parameter:
    """A parameter of the query, a header, or a part of the path; others add fields to it.

    Attributes:
        name: Its name.
        text: What it is for.
        schema: What it may be.
        where: Where it is.
        required: Whether it must be there.
        problem: The kind of problem that a wrong one is.
        example: One that works with the seed, or the `Sample` that has it.
    """

    def __init__(
        self,
        name: str,
        text: str,
        schema: Mapping[str, Any] = TEXT,
        *,
        where: Literal["query", "header", "path"] = "query",
        required: bool = False,
        problem: str | None = None,
        example: Any = None,
    ) -> None:
        self.name = name
        self.text = text
        self.schema = schema
        self.where = where
        self.required = required
        self.problem = problem
        self.example = example


class Answer(NamedTuple):
    """What a call is answered with when it goes well.

    Attributes:
        status: The HTTP status.
        text: What it means.
        model: What the body is; a `…View` is a component of the description under the name before
            `View`. None where there is no body.
        headers: The headers that callers rely on, each with what it is.
        content_type: What the body is written in.
    """

    status: int
    text: str
    model: Any = None
    headers: Mapping[str, str] = MappingProxyType({})
    content_type: str = "application/json"


class Operation(NamedTuple):
    """A call, as the description has it.

    Attributes:
        name: Its `operationId`.
        summary: What it does, in one line.
        scope: The scope that the caller needs; None if every caller may call it.
        answers: What it is answered with when it goes well.
        problems: The kinds of problems it may be refused with, besides those that follow: of a
            scope, a body and the parameters.
        parameters: Its parameters; those of the path that are not among them are texts.
        takes: The model of its body; one of a private name is written out where it is used.
        example: A body that works with the seed, or the `Sample` that has it.
        content_type: What the body is written in.
        path: Its path, where one route answers several.
        is_bodiless: Whether it may be called without a body, which is then as one without fields.
    """

    name: str
    summary: str
    scope: str | None = None
    answers: Sequence[Answer] = ()
    problems: Sequence[str] = ()
    parameters: Sequence[Parameter] = ()
    takes: Any = None
    example: Any = None
    content_type: str = "application/json"
    path: str | None = None
    is_bodiless: bool = False


OfSagas = Callable[[Mapping[str, "Saga"]], Iterable[Operation]]
"""Makes the operations that depend on which sagas there are, when the description is made."""


class Routes:
    """A group of routes, each with what it says of itself.

    A handler is given the parts of its path as text, not percent-encoded.

    Args:
        tag: What the group is called.
        about: What it is for.
        needs: The environment variable that a deployment sets if it has what the group is about;
            without it the routes answer 404, whatever they are asked, and are not described.

    Attributes:
        router: What answers them.
    """

    def __init__(self, tag: str, about: str, *, needs: str | None = None) -> None:
        self.tag = tag
        self.about = about
        self._needs = needs
        self.router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
        self._described: list[tuple[Method, str, Operation | OfSagas]] = []
        self._heads: set[str] = set()

    @property
    def is_missing(self) -> bool:
        """Whether the deployment lacks what the group is about."""
        return self._needs is not None and not os.environ.get(self._needs)

    @property
    def current_event(self) -> APIGatewayProxyEventV2:
        """The request that is being answered."""
        return self.router.current_event

    def get(self, path: str, *operations: Operation | OfSagas) -> Callable[[Handler], Handler]:
        """Answer a GET."""
        return self._route("GET", path, operations)

    def post(self, path: str, *operations: Operation | OfSagas) -> Callable[[Handler], Handler]:
        """Answer a POST."""
        return self._route("POST", path, operations)

    def put(self, path: str, *operations: Operation | OfSagas) -> Callable[[Handler], Handler]:
        """Answer a PUT."""
        return self._route("PUT", path, operations)

    def delete(self, path: str, *operations: Operation | OfSagas) -> Callable[[Handler], Handler]:
        """Answer a DELETE."""
        return self._route("DELETE", path, operations)

    def describe(self, method: Method, path: str, operation: Operation | OfSagas) -> None:
        """Describe a call, which another function may answer."""
        self._described.append((method, path, operation))

    def methods(self, path: str) -> set[str]:
        """The methods that a path answers, percent-encoded as it is called."""
        found: set[str] = set()
        if self.is_missing:
            return found
        for method, template, _ in self._described:
            if re.fullmatch(re.sub(r"<\w+>", "[^/]+", template), path):
                found |= {method, "HEAD"} if template in self._heads else {method}
        return found

    def operations(self, sagas: Mapping[str, Saga]) -> Iterator[tuple[Method, str, Operation]]:
        """What the routes say of themselves: method, path and operation.

        Args:
            sagas: The declarations of the deployment, by name.
        """
        for method, path, found in self._described:
            for operation in (found,) if isinstance(found, Operation) else found(sagas):
                template = (operation.path or path).replace("<", "{").replace(">", "}")
                yield method, template, operation

    def _route(
        self, method: Method, path: str, operations: Sequence[Operation | OfSagas]
    ) -> Callable[[Handler], Handler]:
        for operation in operations:
            self.describe(method, path, operation)

        def answer(handler: Handler) -> Handler:
            @wraps(handler)
            def with_text(**parts: str) -> Response[str]:
                if self.is_missing:
                    raise ProblemError("not-found", f"this API has no {self.tag.lower()}")
                _unescaped("the query", self.current_event.raw_event.get("rawQueryString") or "")
                return handler(**{name: _part(name, part) for name, part in parts.items()})

            # Whatever can be read answers HEAD; `Api` sends its headers alone.
            self.router.route(path, [method, "HEAD"] if method == "GET" else method)(with_text)
            return handler

        if method == "GET":
            self._heads.add(path)
        return answer


def _unescaped(name: str, text: str) -> str:
    """What was percent-encoded.

    Raises:
        ProblemError: It is not text.
    """
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeError:
        raise ProblemError("malformed", f"{name}: it is not UTF-8") from None


def _part(name: str, text: str) -> str:
    """A part of a path as it was before it was percent-encoded.

    Raises:
        ProblemError: It is not text. API Gateway has made U+FFFD of that, which no id has.
    """
    part = _unescaped(name, text)
    if "\ufffd" in part:
        raise ProblemError("malformed", f"{name}: it is not UTF-8")
    return part
