"""Parts that the requests of several sagas have in common."""

import re
from typing import Annotated

from annotated_types import Len, Predicate

from recourse import request_model
from recourse.text import LONGEST_ID, is_id, is_text
from recourse.valet.errors import BadNameError
from recourse.valet.names import object_name

_EMAIL = re.compile(r"[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+\.[^@\s.\x00-\x1f]+")


def is_email(text: str) -> bool:
    """Whether it looks like an e-mail address; only a mail that arrives proves that it is one."""
    return _EMAIL.fullmatch(text) is not None and is_text(text)


def is_document(text: str) -> bool:
    """Whether it can be the name of a document in its owner's space."""
    try:
        return bool(object_name(text))
    except BadNameError:
        return False


Id = Annotated[str, Len(1, LONGEST_ID), Predicate(is_id)]
"""What has a path of its own."""
Key = Annotated[str, Len(1, LONGEST_ID), Predicate(is_text)]
"""What a caller calls its own saga: it may have any character that can be seen, and no path."""
DocumentName = Annotated[str, Len(1, 700), Predicate(is_document)]
Email = Annotated[str, Len(3, 254), Predicate(is_email)]


@request_model
class Person:
    """Who it is for."""

    name: Annotated[str, Len(1, 200), Predicate(is_text)]
    email: Email


@request_model
class Payer:
    """The account that pays."""

    account_id: Id
