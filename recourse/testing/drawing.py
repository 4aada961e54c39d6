"""Gap: moto draws the ids of calls and messages letter by letter.

That is a twentieth of the time of a saga. Here they are drawn at once, as long and of the same
letters, by the same generator.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from contextlib import contextmanager

from moto.moto_api._internal import mock_random
from moto.moto_api._internal.moto_random import MotoRandom
from moto.sqs import models as queues

from recourse.testing.patching import replaced

RECEIPT = 185
"""Letters of a receipt handle, as moto has it."""


def _text(
    drawn: MotoRandom, length: int = 20, include_digits: bool = True, lower_case: bool = False
) -> str:
    letters = string.ascii_letters + (string.digits if include_digits else "")
    text = "".join(drawn.choices(letters, k=length))
    return text.lower() if lower_case else text


def _receipt() -> str:
    return "".join(mock_random.choices(string.ascii_lowercase, k=RECEIPT))


@contextmanager
def at_once() -> Iterator[None]:
    """Draw all letters of an id at once."""
    with (
        replaced(MotoRandom, "get_random_string", _text),
        replaced(queues, "generate_receipt_handle", _receipt),
    ):
        yield
