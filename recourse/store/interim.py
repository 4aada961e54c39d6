"""What `http.client` reads of an answer begins with the final one: 1xx are skipped."""

from __future__ import annotations

from http import HTTPStatus
from http.client import HTTPException, HTTPResponse

MAX_INTERIM = 20
"""How many interim answers are skipped at the most."""


class FinalResponse(HTTPResponse):
    """The final answer: `http.client` skips a 100 before it, and this any other 1xx as well.

    Servers and what stands before them send 102 while they work and 103 with hints. A 101 is final:
    nothing follows it, and nobody asked for it::

        connection = HTTPConnection(host)
        connection.response_class = FinalResponse

    Raises:
        HTTPException: There are more than `MAX_INTERIM`.
    """

    _interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        if not 100 <= status < 200 or status == HTTPStatus.SWITCHING_PROTOCOLS:
            return version, status, reason
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise HTTPException(f"at most {MAX_INTERIM} interim answers may come before the final")
        return version, HTTPStatus.CONTINUE, reason
