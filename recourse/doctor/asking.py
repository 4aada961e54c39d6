"""Calls of AWS that may have no answer: which one, which right it takes, and why.

Only an error's code is kept, for what AWS says besides may name keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)

from recourse.errors import RecourseError

_RIGHTS = {"sesv2": "ses", "service-quotas": "servicequotas"}
"""What IAM calls a service, where that is not its name in botocore."""
_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
)
_BAD_CREDENTIALS = frozenset(
    {
        *("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "RequestExpired"),
        *("SignatureDoesNotMatch", "UnrecognizedClientException", "InvalidAccessKeyId"),
        *("IncompleteSignature", "InvalidToken", "AuthFailure"),
    }
)
_REFUSED = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
)


class UnansweredError(RecourseError):
    """A call was refused, or not answered.

    Attributes:
        right: The right to it, such as `lambda:GetAccountSettings`.
        code: The error's code, or its class.
        is_refused: Whether the credentials are good, and lack the right.
        is_credentials: Whether there are none, or they are not valid.
        is_missing: Whether what was asked for is not there.
    """

    def __init__(self, right: str, problem: ClientError | BotoCoreError) -> None:
        code = type(problem).__name__
        if isinstance(problem, ClientError):
            code = str(problem.response.get("Error", {}).get("Code", code))
        super().__init__(f"{right}: {code}")
        self.right, self.code = right, code
        self.is_refused = code in _REFUSED
        self.is_credentials = isinstance(problem, _NO_CREDENTIALS) or code in _BAD_CREDENTIALS
        self.is_missing = code in ("ParameterNotFound", "NotFoundException", "ValidationError")
        self.is_network = isinstance(problem, ConnectionError | HTTPClientError)


@contextmanager
def naming(service: str, operation: str) -> Iterator[None]:
    """Say which call had no answer."""
    action = "".join(part.title() for part in operation.split("_"))
    right = f"{_RIGHTS.get(service, service)}:{action}"
    try:
        yield
    except (ClientError, BotoCoreError) as problem:
        right = "apigateway:GET on /account" if service == "apigateway" else right
        raise UnansweredError(right, problem) from None
