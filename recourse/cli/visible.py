"""Makes text of others harmless for a terminal, which obeys what control characters say."""

from __future__ import annotations

import re

SHOWN = "\ufffd"
_HOSTILE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters, line breaks among them: a line could be forged
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # direction and line separators
    # What nobody sees; joiners (U+200C, U+200D) stay, which Persian and Indic spelling need.
    "\u00ad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
    "\ud800-\udfff"  # half a character, which cannot be encoded
    "]"
)


def visible(text: str) -> str:
    r"""A line in which each character that acts on a terminal, or hides, is U+FFFD.

    Its length does not change. `--json` prints the text as it is, as JSON escapes it.

    ::

        visible("t-1\x1b[2J")  # "t-1\ufffd[2J"
    """
    return _HOSTILE.sub(SHOWN, text)
