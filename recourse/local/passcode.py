"""The passcode by which the owner of the local cloud signs in to its console.

The console is a web page, which cannot read the secret in `.local` as `recourse login` does; so its
owner types what another user of the machine does not know. It is short enough to type, and tries
are counted::

    passcode = Passcode("k7qm-3xw9-p2td")
    passcode.matches("K7QM 3XW9 P2TD")  # True
    passcode.wait                       # 0.0: the next try is looked at now
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no letter looks like a digit. Each has five bits."""
READ_AS = str.maketrans("oil", "011", "- \t\r\n")
"""What is written for another character, and what is left out."""
GROUPS, GROUP = 3, 4
"""How many groups of how many characters: 60 bits."""
MOST_WRONG, WITHIN = 10, 60.0
"""Wrong tries within so many seconds; then none is looked at until the first of them is older."""


class Passcode:
    """A passcode, and its wrong tries.

    Args:
        text: The passcode, as `new_passcode` makes it.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, text: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.text = text
        self._clock = clock
        self._wrong: deque[float] = deque(maxlen=MOST_WRONG)

    @property
    def wait(self) -> float:
        """Seconds until a try is looked at again; 0 where it is now."""
        if len(self._wrong) < MOST_WRONG:
            return 0
        return max(0, self._wrong[0] + WITHIN - self._clock())

    def matches(self, said: str) -> bool:
        """Whether it is the passcode, in capitals or not, with separators or without."""
        right = hmac.compare_digest(_plain(said), _plain(self.text))
        if not right:
            self._wrong.append(self._clock())
        return right


def new_passcode() -> bytes:
    """A passcode that nobody can guess."""
    groups = ("".join(secrets.choice(ALPHABET) for _ in range(GROUP)) for _ in range(GROUPS))
    return "-".join(groups).encode()


def _plain(text: str) -> bytes:
    return text.lower().translate(READ_AS).encode("utf-8", "surrogatepass")
