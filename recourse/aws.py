"""Clients of AWS, made once and when first needed, and plainly: botocore, no session magic.

Where the endpoint and the credentials come from is the environment's business, as everywhere in
AWS's tools. Parameters are not validated here: mypy has checked them against AWS's own shapes, AWS
checks them again, and doing it a third time costs a fifth of every call.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import botocore.session
from botocore.config import Config

_session = cache(botocore.session.get_session)


@cache
def client(service: str, *, read_timeout: float = 10) -> Any:
    """The client of a service.

    Args:
        service: As botocore names it.
        read_timeout: Seconds to wait for an answer. Tries are few, for steps are tried again.
    """
    return _session().create_client(
        service,
        config=Config(
            connect_timeout=2,
            read_timeout=read_timeout,
            retries={"mode": "standard", "total_max_attempts": 3},
            parameter_validation=False,
        ),
    )
