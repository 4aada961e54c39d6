"""ministack has no condition keys for the version and the age of an S3 request's signature.

AWS has `s3:signatureversion` and, in milliseconds, `s3:signatureAge`; the buckets deny requests
that are not signed by version 4 or were signed too long ago. A presigned URL of version 2 says when
it expires, not when it was signed, so it has no age.

Source: AWS, "Amazon S3 Signature Version 4 Authentication Specific Policy Keys".
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ministack import app
from ministack.core import iam_evaluator

from recourse.local import judging

Keys = dict[str, str]
Query = Mapping[str, Sequence[str]]
RawHeaders = Iterable[tuple[bytes, bytes]]
_request: ContextVar[tuple[Query, RawHeaders]] = ContextVar("request")


def keys_of(query: Query, raw_headers: RawHeaders) -> Keys:
    """The condition keys of a request's signature; empty if it has none."""
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in raw_headers}
    algorithm = headers.get("authorization", "").partition(" ")[0]
    asked = {name.lower(): values[0] for name, values in query.items()}
    if algorithm == "AWS" or algorithm.startswith("AWS4-"):
        signed = headers.get("x-amz-date") or headers.get("date", "")
    elif "x-amz-algorithm" in asked:
        algorithm, signed = asked["x-amz-algorithm"], asked.get("x-amz-date", "")
    elif "awsaccesskeyid" in asked:
        algorithm, signed = "AWS", ""
    else:
        return {}
    keys = {"s3:signatureversion": algorithm}
    # An invalid time is refused with the signature.
    with suppress(ValueError):
        keys["s3:signatureAge"] = str(int(1000 * (time.time() - _moment(signed))))
    return keys


def _moment(signed: str) -> float:
    if "," in signed:
        return parsedate_to_datetime(signed).timestamp()
    return datetime.strptime(f"{signed}+0000", "%Y%m%dT%H%M%SZ%z").timestamp()


def close() -> None:
    """Give policies the condition keys of the signature."""
    pin = iam_evaluator.pin_signed_request

    def pin_and_keep(
        method: str, path: str, query: Query, headers: RawHeaders, **more: Any
    ) -> None:
        _request.set((query, headers))
        pin(method, path, query, headers, **more)

    def judge_by_signature(asked: judging.Question, judge: judging.Judge) -> Any:
        if asked.service == "s3":
            keys = keys_of(*_request.get(({}, ())))
            asked = asked._replace(context={**(asked.context or {}), **keys})
        return judge(asked)

    iam_evaluator.pin_signed_request = app.pin_signed_request = pin_and_keep
    judging.change(judge_by_signature)
