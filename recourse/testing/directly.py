"""Gap: a call of moto is written as HTTP, signed, and read from it again.

Botocore makes a request, encodes, signs and copies it; moto asks each of its services whether it is
theirs, and takes it apart again. That is more than half of the time of a call, and nobody looks at
the signature. Here what botocore has written is passed on as it is, to the service that the client
is of; the answer is read as ever. S3, whose calls are told apart by their addresses, and to which
an unsigned call is one of anybody's, is called as ever too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.awsrequest import HeadersDict
from botocore.endpoint import Endpoint
from moto.core.botocore_stubber import BotocoreStubber
from moto.dynamodb.responses import DynamoHandler
from moto.sns.responses import SNSResponse
from moto.sqs.responses import SQSResponse
from moto.stepfunctions.responses import StepFunctionResponse
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException

from recourse.testing.patching import replaced

HANDLERS: Mapping[str, Any] = {
    "dynamodb": DynamoHandler,
    "sns": SNSResponse,
    "sqs": SQSResponse,
    "stepfunctions": StepFunctionResponse,
}
HOST = ".amazonaws.com/"


@dataclass
class _Passed:
    """A request, as botocore looks at it and as moto does."""

    handler: Any
    url: str
    headers: HeadersDict
    data: bytes
    form: MultiDict[str, str]
    method: str = "POST"
    path: str = "/"
    raw_path: str = "/"
    content_encoding: None = None
    from_wsgi_server: bool = False
    files: Mapping[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, handler: Any, params: Mapping[str, Any]) -> _Passed:
        """What botocore has made of a call; of a query its body is the form."""
        body, headers = params["body"], HeadersDict(params["headers"])
        if isinstance(body, dict):
            form = MultiDict({name: str(value) for name, value in body.items()})
            return cls(handler, params["url"], headers, b"", form)
        return cls(handler, params["url"], headers, body, MultiDict())

    @property
    def body(self) -> bytes:
        return self.data

    @property
    def raw_url(self) -> str:
        return self.url

    @property
    def values(self) -> MultiDict[str, str]:
        return self.form

    @property
    def content_type(self) -> str | None:
        found: str | None = self.headers.get("content-type")
        return found

    def reset_stream(self) -> None:
        """Nothing of it has been read away."""


@contextmanager
def passed() -> Iterator[None]:
    """Pass each call on without a request of HTTP.

    Usable by itself, within `moto.mock_aws`.
    """
    create, process = Endpoint.create_request, BotocoreStubber.process_request

    def created(endpoint: Endpoint, params: dict[str, Any], operation_model: Any = None) -> Any:
        handler = operation_model and HANDLERS.get(operation_model.service_model.service_name)
        if not handler or not params["url"].endswith(HOST) or params["method"] != "POST":
            return create(endpoint, params, operation_model)
        return _Passed.of(handler, params)

    def processed(stubber: BotocoreStubber, request: Any) -> Any:
        if not isinstance(request, _Passed):
            return process(stubber, request)
        try:
            return request.handler.dispatch(request, request.url, request.headers)
        except HTTPException as error:
            return error.code, error.get_headers(), error.get_body()

    with (
        replaced(Endpoint, "create_request", created),
        replaced(BotocoreStubber, "process_request", processed),
    ):
        yield
