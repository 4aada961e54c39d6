"""Parts that the requests of several sagas have in common."""

import re
from typing import Annotated

from annotated_types import Len

from recourse import Checked, request_model
from recourse.text import LONGEST_ID, flaw_of_id, unseen
from recourse.valet.names import MAX_NAME_BYTES, flaw_of_name

_EMAIL = re.compile(r"[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+\.[^@\s.\x00-\x1f]+")


def flaw_of_email(text: str) -> str | None:
    """Why it looks like no e-mail address; only a mail that arrives proves that it is one."""
    if flaw := unseen(text):
        return flaw
    return None if _EMAIL.fullmatch(text) else "must be an address such as asha@example.com"


Id = Annotated[str, Len(1, LONGEST_ID), Checked(flaw_of_id)]
"""What has a path of its own."""
Key = Annotated[str, Len(1, LONGEST_ID), Checked(unseen)]
"""What a caller calls its own saga: it may have any character that can be seen, and no path."""
DocumentName = Annotated[str, Len(1, MAX_NAME_BYTES), Checked(flaw_of_name)]
Email = Annotated[str, Len(3, 254), Checked(flaw_of_email)]


@request_model
class Person:
    """Who it is for."""

    name: Annotated[str, Len(1, 200), Checked(unseen)]
    email: Email


@request_model
class Payer:
    """The account that pays."""

    account_id: Id
