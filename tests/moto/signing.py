"""Gap: moto looks at no signature, and every call is signed.

That is a tenth of the time of a call. Here calls go unsigned.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.signers import RequestSigner

from tests.moto.patching import replaced


def _unsigned(_: RequestSigner, *__: Any) -> None:
    return


@contextmanager
def none() -> Iterator[None]:
    """Sign no call."""
    with replaced(RequestSigner, "sign", _unsigned):
        yield
