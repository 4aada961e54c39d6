"""ministack accepts calls from anyone who reaches its port, including web pages of any origin.

It accepts root's keys without checking signatures, and treats `test`, any twelve digits and a
missing key as root's key; it accepts any `Host`, and calls that AWS does not have
(`/_ministack/reset`). Every page may read its answers. A function's keys can be computed from its
name and role, and any page reaches the ports where workers fetch their calls. On AWS all of that
requires a signature.
"""

import hmac
import os
from functools import partial
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, quote
from uuid import uuid4

from ministack import app
from ministack.core import iam_evaluator, lambda_runtime, responses, router, sigv4
from ministack.services import s3

from recourse.local.callers import PROXY_HEADER, is_named, is_of_another_page, proxy_pass

API = "/_aws/execute-api/"
READY = "GET", "/_ministack/ready"
STACK_SIGNALS = "/_ministack/cfn-response/", "/_ministack/cfn-signal/"
"""Where a stack receives what it waits for, at unguessable addresses; presigned URLs on AWS."""
NOT_ON_AWS = ("/_aws/", "/_localstack/", "/_ministack/")
"""Paths that AWS does not have."""

NOT_YOURS = b"This local cloud accepts calls from its owner only.\n"

UNSIGNED = iam_evaluator.AuthError(
    "MissingAuthenticationToken", "Request is missing Authentication Token"
)
UNKNOWN = iam_evaluator.AuthError(
    "InvalidClientTokenId", "The security token included in the request is invalid."
)

Values = dict[str, list[str]]
Refusal = tuple[int, dict[str, str], bytes]


class Call:
    """An HTTP call, as far as its authentication needs it."""

    def __init__(self, scope: Any) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.raw_path = (scope.get("raw_path") or quote(self.path).encode()).decode("latin-1")
        self.query: Values = parse_qs(
            scope["query_string"].decode("latin-1"), keep_blank_values=True
        )
        self.raw_headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.headers: dict[str, str] = {}
        for raw_name, raw_value in self.raw_headers:
            name, value = raw_name.decode("latin-1").lower(), sigv4.decode_header_value(raw_value)
            self.headers[name] = f"{self.headers[name]},{value}" if name in self.headers else value
        self.service: str = router.detect_service(self.method, self.path, self.headers, self.query)

    @property
    def is_presigned(self) -> bool:
        """Whether its query has an S3 signature, which a preflight (`OPTIONS`) has too."""
        return (
            self.service == "s3"
            and not self.path.startswith(NOT_ON_AWS)
            and "authorization" not in self.headers
            and self.query.get("X-Amz-Algorithm") == ["AWS4-HMAC-SHA256"]
            and bool(self.query.get("X-Amz-Signature"))
        )

    def refusal(self, body: bytes) -> Refusal | None:
        """AWS's answer to a missing or invalid signature; None if it is valid."""
        if (self.method, self.path) == READY:
            return None
        if self.method == "PUT" and self.path.startswith(STACK_SIGNALS):
            return None
        if self.path.startswith(NOT_ON_AWS) and not self.path.startswith(API):
            return 403, {"Content-Type": "text/plain"}, b"AWS has no such call.\n"
        failure = self._failure(body)
        if failure is None:
            return None
        answer: Refusal = app._credential_failure(
            self.service, "", str(uuid4()), failure, self.headers
        )
        return answer

    def _failure(self, body: bytes) -> Any:
        """AWS's error for the signature; None if it is valid."""
        key = router.extract_access_key_id(self.headers, self.query)
        if iam_evaluator.is_root_access_key(key):
            return self._failure_of_root(key, body)
        iam_evaluator.pin_signed_request(self.method, self.raw_path, self.query, self.raw_headers)
        iam_evaluator.pin_signed_body(body)
        account = iam_evaluator.find_iam_access_key_account(key) or responses.get_account_id()
        checked = iam_evaluator.authenticate(key, account)
        if checked is None:
            return UNSIGNED
        return checked if isinstance(checked, iam_evaluator.AuthError) else None

    def _failure_of_root(self, key: str, body: bytes) -> Any:
        if not self.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 "):
            return UNSIGNED
        if key != os.environ["AWS_ACCESS_KEY_ID"]:
            return UNKNOWN
        signature = sigv4.parse_header_signature(self.headers)
        failure = (
            signature
            if isinstance(signature, tuple)
            else sigv4.request_time_failure(signature)
            or sigv4.header_signature_failure(
                signature,
                os.environ["AWS_SECRET_ACCESS_KEY"],
                self.method,
                self.raw_path,
                self.query,
                self.headers,
                body,
            )
        )
        return failure and iam_evaluator.AuthError(*failure)


class Gate:
    """An ASGI app that passes authenticated calls on to ministack."""

    def __init__(self, ministack: Any, secret: str) -> None:
        self._ministack = ministack
        self._pass = proxy_pass(secret)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a call on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._ministack(scope, receive, send)
            return
        named = is_named(scope["headers"])
        if named and self._is_of_proxy(scope):
            headers = [pair for pair in scope["headers"] if pair[0] != PROXY_HEADER]
            await self._ministack(scope | {"headers": headers}, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif named and (call := Call(scope)).is_presigned:
            await self._presigned(call, scope, receive, send)
        elif named and not is_of_another_page(scope["headers"]):
            await self._signed(call, scope, receive, send)
        else:
            # Its body is not read, so the server closes the connection: nobody should reuse it.
            plain = {"Content-Type": "text/plain", "Connection": "close"}
            await app._send_response(send, 403 if named else 421, plain, NOT_YOURS)

    def _is_of_proxy(self, scope: Any) -> bool:
        return scope["path"].startswith(API) and any(
            name == PROXY_HEADER and hmac.compare_digest(value, self._pass)
            for name, value in scope["headers"]
        )

    async def _presigned(self, call: Call, scope: Any, receive: Any, send: Any) -> None:
        """Let S3 answer, and pages read the answer as the bucket's CORS allows."""
        bucket = app._s3_cors_target(call.headers["host"], call.path)
        if call.method == "OPTIONS":
            refusal = s3.cors_preflight(*(bucket or ("", "")), call.headers)
        else:
            refusal = s3._verify_presigned_sigv4(call.method, call.path, call.headers, call.query)
        shown = s3.cors_response_headers(bucket[0], call.method, call.headers) if bucket else {}
        if refusal:
            status, headers, body = refusal
            await app._send_response(send, status, shown | headers, body)
        else:
            await self._ministack(scope, receive, _shown_to(send, shown))

    async def _signed(self, call: Call, scope: Any, receive: Any, send: Any) -> None:
        """Pass the call on if its signature is valid."""
        body = await _whole(receive)
        if body is None:  # the caller has gone
            return
        refusal = call.refusal(body)
        if refusal:
            await app._send_response(send, *refusal)
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Any:
            return messages.pop() if messages else await receive()

        await self._ministack(scope, again, _shown_to(send, {}))


async def _whole(receive: Any) -> bytes | None:
    """The body of a call; None if it breaks off."""
    pieces = []
    while (message := await receive())["type"] == "http.request":
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)
    return None


def _shown_to(send: Any, shown: dict[str, str]) -> Any:
    """Replace ministack's CORS headers with these."""

    async def answer(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = [
                (name, value)
                for name, value in message["headers"]
                if not name.lower().startswith(b"access-control-")
            ]
            message = message | {"headers": headers + app._asgi_header_list(shown)}
        await send(message)

    return answer


def _close_runtime_api() -> None:
    """Refuse pages at the ports where workers fetch and answer their calls."""
    build = lambda_runtime.ProvidedWorker._build_handler_class

    def build_for_workers(*args: Any) -> Any:
        class Handler(build(*args)):  # type: ignore[misc]
            def parse_request(self: BaseHTTPRequestHandler) -> bool:
                if not super().parse_request():  # type: ignore[misc]
                    return False
                said = [(n.encode(), v.encode("latin-1")) for n, v in self.headers.items()]
                if is_named(said) and not is_of_another_page(said):
                    return True
                self.send_error(403)
                return False

        return Handler

    lambda_runtime.ProvidedWorker._build_handler_class = build_for_workers


def close() -> None:
    """Accept calls that are signed, presigned, or sent by the API's proxy, and no others."""
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    app.app = Gate(app.app, secret)
    # The module uses hashlib only for functions' keys, which it derives from their names.
    keyed = partial(hmac.new, secret.encode(), digestmod="sha256")
    lambda_runtime.hashlib = SimpleNamespace(sha256=keyed)
    _close_runtime_api()
