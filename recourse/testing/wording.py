"""Gap: botocore finds out anew, for every call, where it goes and how its maker is called.

That is a fifth of the time of a call that moto answers. Both are the same for all calls of an
operation, but for S3, whose address has the bucket in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.regions import EndpointRulesetResolver
from botocore.useragent import UserAgentString

from recourse.testing.patching import replaced


@contextmanager
def once() -> Iterator[None]:
    """Find it out once for each operation of each client."""
    shipped = EndpointRulesetResolver.construct_endpoint
    found: dict[tuple[EndpointRulesetResolver, str], Any] = {}

    def construct(resolver: EndpointRulesetResolver, operation_model: Any, **asked: Any) -> Any:
        if operation_model.service_model.service_name == "s3":
            return shipped(resolver, operation_model, **asked)
        key = resolver, operation_model.name
        if key not in found:
            found[key] = shipped(resolver, operation_model, **asked)
        return found[key]

    with (
        replaced(EndpointRulesetResolver, "construct_endpoint", construct),
        replaced(UserAgentString, "to_string", lambda _: "test"),
    ):
        yield
