"""Gap: moto works out the name of every method and attribute anew, letter by letter, at each call.

That is a tenth of the time of a call. Here it does so once a name, and once a class.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from moto.core import responses, utils
from moto.sqs import models as queues

from recourse.testing.patching import replaced


@contextmanager
def once() -> Iterator[None]:
    """Work out each name once."""
    underscored = cache(utils.camelcase_to_underscores)
    methods = cache(utils.method_names_from_class)
    with ExitStack() as stack:
        for module in (utils, responses, queues):
            stack.enter_context(replaced(module, "camelcase_to_underscores", underscored))
        for module in (utils, responses):
            stack.enter_context(replaced(module, "method_names_from_class", methods))
        yield
