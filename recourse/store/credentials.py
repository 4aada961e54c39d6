"""Credentials of AWS, for what signs requests without botocore."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials that a request is signed with; the secret is not in their `repr`.

    No tuple, whose secret would be written where it is formatted or made JSON.

    Attributes:
        access_key: The access key id.
        secret_key: The secret access key.
        session_token: The session token of temporary credentials.
        expires: When they end, in seconds since 1970; None where they are renewed.
    """

    access_key: str
    secret_key: str
    session_token: str | None = None
    expires: float | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.access_key!r})"
