"""The signer: equal to botocore's for any request, and quicker."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import botocore.auth
import botocore.session
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from recourse.store.credentials import Credentials
from recourse.valet.sigv4 import MAX_EXPIRES, presign
from tests.profile import examples

REGIONS = ("us-east-1", "eu-west-1", "ap-south-1", "me-central-1", "us-gov-west-1")
words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)
keys = st.lists(words.filter(lambda s: s not in ("", ".", "..")), min_size=1, max_size=5).map(
    "/".join
)
headers = st.dictionaries(
    st.sampled_from(
        [
            "content-length",
            "content-type",
            "x-amz-checksum-sha256",
            "if-none-match",
            "x-amz-tagging",
            "x-amz-meta-of",
            "range",
        ]
    ),
    st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs")), min_size=1).filter(
        lambda s: s.strip() != ""
    ),
)
names = st.one_of(
    st.sampled_from(
        [
            "x-valet-key",
            "versionId",
            "partNumber",
            "uploadId",
            "response-content-type",
            "response-content-disposition",
            "A",
            "a-b",
            "a",
        ]
    ),
    st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8),
)


def botocores(
    method: str,
    host: str,
    path: str,
    *,
    query: dict[str, str],
    headers: dict[str, str],
    credentials: Credentials,
    region: str,
    at: int,
    expires: int,
) -> str:
    """The same URL by botocore."""
    asked = "&".join(f"{quote(n, safe='-_.~')}={quote(v, safe='-_.~')}" for n, v in query.items())
    url = f"https://{host}{quote(path, safe='/-_.~')}" + (f"?{asked}" if asked else "")
    request = AWSRequest(method=method, url=url, headers={**headers, "host": host})
    keys = BotocoreCredentials(
        credentials.access_key, credentials.secret_key, credentials.session_token
    )
    signer = botocore.auth.S3SigV4QueryAuth(keys, "s3", region, expires=expires)
    with mock.patch.object(
        botocore.auth, "get_current_datetime", lambda: datetime.fromtimestamp(at, UTC)
    ):
        signer.add_auth(request)
    return str(request.url)


def parts(url: str) -> tuple[str, list[tuple[str, str]]]:
    split = urlsplit(url)
    return f"{split.scheme}://{split.netloc}{split.path}", sorted(
        parse_qsl(split.query, keep_blank_values=True, strict_parsing=True)
    )


@examples(2000)  # what a signature covers has many parts, and escapes each in its own way
@given(
    method=st.sampled_from(["GET", "PUT", "HEAD"]),
    bucket=st.from_regex(r"[a-z][a-z0-9-]{2,20}[a-z0-9]", fullmatch=True),
    key=keys,
    query=st.dictionaries(names, words, max_size=4),
    headers=headers,
    secret=st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1),
    token=st.one_of(
        st.none(), st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1)
    ),
    region=st.sampled_from(REGIONS),
    at=st.integers(1_000_000_000, 4_000_000_000),
    expires=st.integers(1, MAX_EXPIRES),
)
def test_it_signs_as_botocore_does(
    method: str,
    bucket: str,
    key: str,
    query: dict[str, str],
    headers: dict[str, str],
    secret: str,
    token: str | None,
    region: str,
    at: int,
    expires: int,
) -> None:
    request: dict[str, Any] = {
        "query": query,
        "headers": headers,
        "credentials": Credentials("AKIAEXAMPLE", secret, token),
        "region": region,
        "at": at,
        "expires": expires,
    }
    host = f"{bucket}.s3.{region}.amazonaws.com"
    ours = presign(method, host, f"/{key}", **request)
    assert parts(ours) == parts(botocores(method, host, f"/{key}", **request))


def test_it_signs_as_awss_own_example_has_it() -> None:
    """The worked example of the documentation, signature and all."""
    url = presign(
        "GET",
        "examplebucket.s3.amazonaws.com",
        "/test.txt",
        query={},
        headers={},
        credentials=Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        region="us-east-1",
        at=1369353600,
        expires=86400,
    )
    assert parse_qs(urlsplit(url).query)["X-Amz-Signature"] == [
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    ]


@pytest.mark.parametrize("expires", [0, -1, MAX_EXPIRES + 1])
def test_a_url_that_s3_would_not_take_is_not_signed(expires: int) -> None:
    with pytest.raises(ValueError, match="expires must be 1 to"):
        presign(
            "GET",
            "b.s3.us-east-1.amazonaws.com",
            "/k",
            query={},
            headers={},
            credentials=Credentials("A", "s"),
            region="us-east-1",
            at=1369353600,
            expires=expires,
        )


def test_a_secret_is_not_shown() -> None:
    made = Credentials("AKIA", "hidden", "hidden")
    # Logs format their arguments, and write what is no JSON by its text.
    shown = (repr(made), f"{made}", "%s" % made, json.dumps(made, default=str))  # noqa: UP031
    assert all("AKIA" in one and "hidden" not in one for one in shown)


def rate(call: Callable[[], object], times: int) -> float:
    """Calls a second: the best of five rounds, for the machine is shared."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(times):
            call()
        best = min(best, time.process_time() - began)
    return times / best


def test_it_is_far_quicker_than_botocore_and_near_the_floor() -> None:
    request: dict[str, Any] = {
        "query": {"x-valet-key": "9f" * 16},
        "headers": {
            "content-length": "1048576",
            "content-type": "application/pdf",
            "x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "if-none-match": "*",
        },
        "credentials": Credentials("AKIAEXAMPLE", "secret", "token" * 40),
        "region": "us-east-1",
        "at": 1_800_000_000,
        "expires": 10,
    }
    where = ("PUT", "bucket.s3.us-east-1.amazonaws.com", "/incoming/" + "9f" * 16)
    key, text = b"k" * 32, b"a" * 700
    floor = rate(lambda: hmac.digest(key, sha256(text).hexdigest().encode(), "sha256"), 20_000)
    ours = rate(lambda: presign(*where, **request), 10_000)
    client: Any = botocore.session.get_session().create_client(
        "s3",
        region_name="us-east-1",
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="secret",
        aws_session_token="token" * 40,
        config=Config(signature_version="s3v4"),
    )
    asked = {
        "Bucket": "bucket",
        "Key": "incoming/" + "9f" * 16,
        "ContentType": "application/pdf",
        "ContentLength": 1048576,
        "ChecksumSHA256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "IfNoneMatch": "*",
    }
    theirs = rate(lambda: client.generate_presigned_url("put_object", asked, ExpiresIn=10), 300)
    print(f"sign: floor {floor:,.0f}/s, ours {ours:,.0f}/s, botocore {theirs:,.0f}/s")
    # The benchmarks say 15 and 4; here there is room for a machine that is shared.
    assert ours > 8 * theirs
    assert ours > floor / 8
