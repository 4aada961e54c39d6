"""Credentials of AWS, as what signs by itself is given them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Credentials:
    """What requests are signed with.

    Attributes:
        access_key: The id.
        secret_key: The secret.
        session_token: Of temporary credentials.
        expires: When they end, in seconds since 1970; None where they are renewed by themselves.
    """

    access_key: str
    secret_key: str
    session_token: str | None = None
    expires: float | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.access_key!r})"
