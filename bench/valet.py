"""Valet keys: signing beside botocore, calls and time of issue and redeem, and large uploads.

What is counted and timed without a network stands on moto; what has to do with throughput runs on
a local cloud.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import botocore.session
import httpx
from botocore.config import Config
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from bench import LOCAL, ROOT
from bench.calls import READS
from bench.figures import Figure, alternated, say, seconds
from recourse.cli.api import Api
from recourse.local.aws import environment
from recourse.local.cloud import EVERY_SCOPE, LocalCloud
from recourse.store.credentials import Credentials
from recourse.valet.objects import Bucket, part_request
from recourse.valet.sigv4 import presign
from tests.valet.conftest import ground

REGION, NAME = "us-east-1", "documents"
ACCESS, SECRET, SESSION = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI", "session" * 40
CREDENTIALS = Credentials(ACCESS, SECRET, SESSION)
KEY_ID, UPLOAD_ID = "0123456789abcdef" * 2, "upload" * 20
DIGEST = hashlib.sha256(b"a part").hexdigest()
LENGTH = 8 * 1024**2
OURS, THEIRS = 10_000, 1_000
"""URLs of each in one round."""
ROUNDS = 7
CALLS = 300
"""Issued and redeemed in one round."""
AT_ONCE, EACH = 8, 40
"""Redeemed at once on the local cloud, and how often each; fewer than a key may be a minute."""
SIZE = 256 * 1024**2
MEMORY = 100 * 1024**2
UPLOADS = 3
ROUNDS_OF_CLOUD = 4
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
PLAIN = """
import sys
import boto3
boto3.client("s3").upload_file(*sys.argv[1:])
"""


def measure() -> list[Figure]:
    """Sign URLs beside botocore, issue and redeem keys, and upload 256 MiB with one."""
    return [*_signing(), *_calls(), *_cloud()]


# Signing.


def _signing() -> list[Figure]:
    say(f"{OURS} URLs for parts by us, {THEIRS} by botocore, {ROUNDS} rounds")
    bucket = Bucket(NAME, REGION)
    client: Any = botocore.session.get_session().create_client(
        "s3",
        region_name=REGION,
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        aws_session_token=SESSION,
        config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}),
    )
    checksum = base64.b64encode(bytes.fromhex(DIGEST)).decode()

    def ours() -> float:
        def work() -> None:
            now = time.time()
            for number in range(1, OURS + 1):
                request = part_request(
                    KEY_ID, UPLOAD_ID, number=number, sha256=DIGEST, content_length=LENGTH
                )
                bucket.sign(request, CREDENTIALS, key_id=KEY_ID, now=now, until=2**40)

        return seconds(work) / OURS

    def theirs() -> float:
        def work() -> None:
            for number in range(1, THEIRS + 1):
                asked = {
                    "Bucket": NAME,
                    "Key": f"incoming/{KEY_ID}",
                    "UploadId": UPLOAD_ID,
                    "PartNumber": number,
                    "ContentLength": LENGTH,
                    "ChecksumSHA256": checksum,
                }
                client.generate_presigned_url("upload_part", Params=asked, ExpiresIn=10)

        return seconds(work) / THEIRS

    first = part_request(KEY_ID, UPLOAD_ID, number=1, sha256=DIGEST, content_length=LENGTH)
    signed = bucket.sign(first, CREDENTIALS, key_id=KEY_ID, now=time.time(), until=2**40)
    host, at = urlsplit(signed.url).netloc, int(time.time())
    queries = [
        {**first.query, "partNumber": str(number), "x-valet-key": KEY_ID}
        for number in range(1, OURS + 1)
    ]

    def bare() -> float:
        def work() -> None:
            for query in queries:
                presign(
                    first.method,
                    host,
                    f"/{first.key}",
                    query=query,
                    headers=first.headers,
                    credentials=CREDENTIALS,
                    region=REGION,
                    at=at,
                    expires=10,
                )

        return seconds(work) / OURS

    # What is hashed is as long as the URL and what else the request binds.
    text = f"{signed.method}\n{signed.url}\n{signed.headers}".encode()
    key, last = bytes(32), bytes(150)

    def floor() -> float:
        def work() -> None:
            for _ in range(OURS):
                hashlib.sha256(text).hexdigest()
                hmac.digest(key, last, "sha256").hex()

        return seconds(work) / OURS

    mine, others, signing, least = alternated([ours, theirs, bare, floor], rounds=ROUNDS, warmups=1)
    size = f"{OURS:,} and {THEIRS:,} URLs a round, {ROUNDS} rounds, median"
    return [
        Figure(
            what="URLs for parts signed, one after the other in one call path",
            size=size,
            figure=f"{1 / mine:,.0f}/s: 10,000 in {mine * 10_000:.2f} s",
            alternative=f"botocore's presign of the same request: {1 / others:,.0f}/s",
            ratio=others / mine,
            least=15,
        ),
        Figure(
            what="time of one signature, its request put together before",
            size=size,
            figure=f"{signing * 1e6:.1f} µs",
            alternative=f"one SHA-256 and one HMAC of as much: {least * 1e6:.1f} µs",
            ratio=signing / least,
            most=4,
        ),
    ]


# Issuing and redeeming.


@contextmanager
def _noting(client: Any) -> Iterator[list[tuple[str, float]]]:
    """The calls that a client makes meanwhile, and how long each took."""
    made: list[tuple[str, float]] = []
    call = client._make_api_call

    def noted(name: str, asked: dict[str, Any]) -> Any:
        began = time.perf_counter()
        try:
            return call(name, asked)
        finally:
            made.append((name, time.perf_counter() - began))

    with mock.patch.object(client, "_make_api_call", noted):
        yield made


def _calls() -> list[Figure]:
    say(f"{CALLS} keys issued, and redeemed, {ROUNDS} rounds")
    with ground() as place:
        place.uploaded()
        place.redeem(place.issue("download")["token"])
        digest = hashlib.sha256(b"what is signed").digest()
        signature = place.signer.sign(digest)
        counted: dict[str, list[Counter[str]]] = {"issue": [], "redeem": []}

        def overhead(what: str, work: Callable[[], Any]) -> Callable[[], float]:
            def measured() -> float:
                took = 0.0
                for _ in range(CALLS):
                    place.now += 1
                    with _noting(place.dynamodb) as made:
                        took += seconds(work) - sum(spent for _, spent in made)
                    kinds = ["read" if name in READS else "write" for name, _ in made]
                    counted[what].append(Counter(kinds))
                return took / CALLS

            return measured

        def verified() -> float:
            key, checked = place.signer.public_key, ec.ECDSA(Prehashed(SHA256()))
            work = lambda: [key.verify(signature, digest, checked) for _ in range(CALLS)]  # noqa: E731
            return seconds(work) / CALLS

        def signed() -> float:
            return seconds(lambda: [place.signer.sign(digest) for _ in range(CALLS)]) / CALLS

        many = place.issue("download", max_uses=10_000, expires_in=7 * 24 * 3600)["token"]
        times = alternated(
            [
                overhead("issue", lambda: place.issue("download", expires_in=7 * 24 * 3600)),
                signed,
                overhead("redeem", lambda: place.redeem(many)),
                verified,
            ],
            rounds=ROUNDS,
            warmups=1,
        )
    figures = []
    for what, ours, (floor, known) in (
        ("issue", times[0], ("one ES256 signature", times[1])),
        ("redeem", times[2], ("one ES256 verification", times[3])),
    ):
        figures += _counted(what, counted[what])
        figures.append(
            Figure(
                what=f"time of {what} besides its calls",
                size=f"{CALLS} calls a round, {ROUNDS} rounds, median",
                figure=f"{ours * 1000:.2f} ms",
                alternative=f"{floor}: {known * 1000:.2f} ms",
                ratio=ours / known,
            )
        )
    return figures


def _counted(what: str, calls: list[Counter[str]]) -> list[Figure]:
    writes, reads = ([one[kind] for one in calls] for kind in ("write", "read"))
    worst = max(writes) if max(writes) > 1 else min(writes)
    size = f"{len(calls):,} calls"
    return [
        Figure(
            what=f"DynamoDB writes of {what}",
            size=size,
            figure=f"{min(writes)} to {max(writes)} calls",
            alternative="one transaction",
            ratio=worst,
            least=1,
            most=1,
        ),
        Figure(
            what=f"DynamoDB reads of {what}",
            size=size,
            figure=f"{min(reads)} to {max(reads)} calls",
            alternative="one read",
            ratio=max(reads),
            most=1,
        ),
    ]


# On the local cloud.


def _cloud() -> list[Figure]:
    folder = LOCAL / "bench" / "valet"
    with (
        LocalCloud(
            port=0, aws_port=0, state_dir=folder, fresh=True, seed_file=None, say=say
        ) as cloud,
        Api(cloud.api_url, cloud.token("asha", EVERY_SCOPE)) as api,
    ):
        document = folder / "document"
        with document.open("wb") as file:
            for _ in range(SIZE // 2**20):
                file.write(secrets.token_bytes(2**20))
        return [_redeeming(api, cloud.api_url), *_sending(cloud, document)]


def _redeeming(api: Api, url: str) -> Figure:
    """Tokens redeemed at once, each by somebody who redeems it again and again."""
    say(f"{AT_ONCE * EACH} tokens redeemed, {AT_ONCE} at once, and as many answers of /health")
    body = json.dumps({"of": "the bench"}).encode()
    what = {
        "content_type": "application/octet-stream",
        "content_length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    asked = {"operation": "upload", "object": "bench/1", "max_uses": 10_000, "upload": what}
    tokens = [
        api.call("POST", "/valet-keys", json=asked).json()["token"]
        for _ in range(ROUNDS_OF_CLOUD * AT_ONCE)
    ]

    def at_once(calls: list[Callable[[httpx.Client], httpx.Response]]) -> float:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:

            def work(call: Callable[[httpx.Client], httpx.Response]) -> None:
                for _ in range(EACH):
                    call(http).raise_for_status()

            with ThreadPoolExecutor(AT_ONCE) as pool:
                took = seconds(lambda: list(pool.map(work, calls)))
        return AT_ONCE * EACH / took

    def redeems() -> float:
        def by(token: str) -> Callable[[httpx.Client], httpx.Response]:
            return lambda http: http.post("/valet-keys/redeem", json={"token": token})

        return at_once([by(tokens.pop()) for _ in range(AT_ONCE)])

    def healths() -> float:
        return at_once([lambda http: http.get("/health")] * AT_ONCE)

    ours, bare = alternated([redeems, healths], rounds=ROUNDS_OF_CLOUD - 1, warmups=1)
    return Figure(
        what=f"redeems a second, {AT_ONCE} at once, on the local cloud",
        size=f"{AT_ONCE * EACH} a round, {ROUNDS_OF_CLOUD - 1} rounds, median",
        figure=f"{ours:.0f}/s",
        alternative=f"GET /health, which calls nothing: {bare:.0f}/s",
        ratio=ours / bare,
    )


def _sending(cloud: LocalCloud, document: Path) -> list[Figure]:
    bucket = "plain"
    cloud.client("s3").create_bucket(Bucket=bucket)
    variables = os.environ | {
        **environment(cloud.aws_endpoint),
        "RECOURSE_API": cloud.api_url,
        "RECOURSE_TOKEN": cloud.token("asha", EVERY_SCOPE),
        "PYTHONPATH": str(ROOT),
    }
    most = 0

    def ours() -> float:
        nonlocal most
        began = time.perf_counter()
        peak = _run([sys.executable, "-m", "recourse", "valet", "put", str(document)], variables)
        most = max(most, peak)
        return SIZE / 2**20 / (time.perf_counter() - began)

    def plain() -> float:
        command = [sys.executable, "-c", PLAIN, str(document), bucket, "document"]
        return SIZE / 2**20 / seconds(lambda: _run(command, variables))

    say(f"{SIZE // 2**20} MiB sent by `valet put`, and by boto3, {UPLOADS} times")
    mine, others = alternated([ours, plain], rounds=UPLOADS)
    size = f"{SIZE // 2**20} MiB, {UPLOADS} times"
    return [
        Figure(
            what="peak memory of `recourse valet put`",
            size=size,
            figure=f"{most / 2**20:.0f} MiB",
            alternative=f"{MEMORY // 2**20} MiB",
            ratio=most / MEMORY,
            most=1,
        ),
        Figure(
            what="`recourse valet put`: hashed, sent in parts, checked and visible",
            size=f"{size}, median",
            figure=f"{mine:.0f} MiB/s",
            alternative=f"boto3's upload_file: sent in parts: {others:.0f} MiB/s",
            ratio=mine / others,
        ),
    ]


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run a command; the most bytes that it held.

    A process begins with the memory of the one that starts it, so a small one does.

    Raises:
        CalledProcessError: It failed.
    """
    small = [sys.executable, "-S", "-c", PEAK, *command]
    told = subprocess.run(small, env=environment, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return int(told.stdout) * (1 if sys.platform == "darwin" else 1024)
