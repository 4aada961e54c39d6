"""The life of a valet key, over HTTP: what is issued, used, completed, revoked and audited."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urljoin

import httpx
import jwt
import pytest

from recourse.cli.api import Api
from recourse.local.cloud import LocalCloud
from recourse.valet.objects import URL_LIFE
from recourse.valet.token import AUDIENCE
from tests.patience import PATIENCE, until

PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"
SKEW = 5


@pytest.fixture(scope="module")
def open_http() -> Iterator[httpx.Client]:
    """A client without a bearer, as whoever holds a token or a URL has."""
    with httpx.Client(timeout=PATIENCE, trust_env=False) as made:
        yield made


@pytest.fixture
def caller(api: Api, url: str, open_http: httpx.Client) -> Caller:
    """Somebody with a document of a name that nobody else has."""
    return Caller(api, url, open_http)


class Caller:
    """Somebody who issues keys, and somebody who uses them."""

    def __init__(self, api: Api, url: str, http: httpx.Client) -> None:
        self.api, self.url, self.http = api, url, http
        self.name = f"e2e/{uuid.uuid4().hex}.pdf"

    def issue(self, operation: str, body: bytes | None = None, **more: Any) -> dict[str, Any]:
        asked: dict[str, Any] = {"operation": operation, "object": self.name, **more}
        if body is not None:
            asked["upload"] = {
                "content_type": "application/pdf",
                "content_length": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
            }
        issued: dict[str, Any] = self.api.call("POST", "/valet-keys", json=asked).json()
        return issued

    def redeem(self, token: str, part: dict[str, Any] | None = None) -> httpx.Response:
        body = {"token": token} | ({"part": part} if part else {})
        return self.http.post(f"{self.url}/valet-keys/redeem", json=body)

    def use(self, redeemed: dict[str, Any], body: bytes | None = None) -> httpx.Response:
        return self.http.request(
            redeemed["method"], redeemed["url"], headers=redeemed["headers"], content=body
        )

    def put(self, body: bytes = PDF) -> dict[str, Any]:
        key = self.issue("upload", body)
        sent = self.use(self.redeem(key["token"]).json(), body)
        assert sent.status_code == 200, sent.text
        return key

    def complete(self, key: dict[str, Any]) -> dict[str, Any]:
        done: dict[str, Any] = self.api.call("POST", f"/valet-keys/{key['key_id']}/complete").json()
        return done


def problem(answer: httpx.Response, status: int, kind: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == f"urn:recourse:problem:{kind}"


def test_a_document_goes_up_and_comes_down(caller: Caller) -> None:
    key = caller.put()
    assert key["multipart"] is None
    done = caller.complete(key)
    assert done["sha256"] == hashlib.sha256(PDF).hexdigest()
    assert caller.complete(key) == done

    down = caller.issue("download", max_uses=2)
    got = caller.use(caller.redeem(down["token"]).json())
    assert (got.status_code, got.content) == (200, PDF)
    assert got.headers["content-disposition"].startswith("attachment")
    assert got.headers["content-type"] == "application/pdf"

    # A link in a plain browser; a part of it, for S3 keeps to ranges.
    there = urljoin(caller.url, down["link"])
    link = caller.http.get(there, follow_redirects=True, headers={"range": "bytes=0-3"})
    assert (link.status_code, link.content) == (206, b"%PDF")
    problem(caller.redeem(down["token"]), 410, "key-used-up")

    shown = caller.api.get(f"/valet-keys/{down['key_id']}")
    assert (shown["uses"], shown["status"]) == (2, "USED_UP")
    # The trail is the newest first, since it has pages.
    outcomes = [(row["action"], row["outcome"]) for row in reversed(shown["audit"])]
    assert outcomes == [
        ("issue", "allowed"),
        ("redeem", "allowed"),
        ("follow", "allowed"),
        ("redeem", "key-used-up"),
    ]


def test_an_upload_is_committed_by_s3s_event_where_nobody_completes_it(caller: Caller) -> None:
    key = caller.put()
    until(
        lambda: caller.api.get(f"/valet-keys/{key['key_id']}")["status"] == "COMPLETED",
        "what S3's event commits",
    )
    audit = caller.api.get(f"/valet-keys/{key['key_id']}")["audit"]
    assert Counter(row["action"] for row in audit)["complete"] == 1
    assert [row["caller"] for row in audit if row["action"] == "complete"] == ["s3"]
    down = caller.issue("download")
    assert caller.use(caller.redeem(down["token"]).json()).content == PDF


def test_an_upload_in_parts(caller: Caller, inside: LocalCloud | None) -> None:
    body = PDF + bytes(range(256)) * 4096 * 9
    key = caller.issue("upload", body)
    size, parts = key["multipart"]["part_size"], key["multipart"]["parts"]
    assert parts == 2
    problem(caller.redeem(key["token"]), 422, "wrong-part")
    for number in range(1, parts + 1):
        piece = body[(number - 1) * size : number * size]
        part = {
            "number": number,
            "sha256": hashlib.sha256(piece).hexdigest(),
            "content_length": len(piece),
        }
        sent = caller.use(caller.redeem(key["token"], part).json(), piece)
        assert sent.status_code == 200, sent.text
    assert caller.complete(key)["content_length"] == len(body)
    shown = caller.api.get(f"/valet-keys/{key['key_id']}")
    assert (shown["uses"], shown["parts_redeemed"]) == (0, parts)
    down = caller.issue("download")
    assert caller.use(caller.redeem(down["token"]).json()).content == body


def test_an_interrupted_upload_in_parts_leaves_nothing_behind(
    caller: Caller, cloud: LocalCloud
) -> None:
    body = PDF + bytes(9 * 1024**2)
    key = caller.issue("upload", body)
    piece = body[: key["multipart"]["part_size"]]
    part = {
        "number": 1,
        "sha256": hashlib.sha256(piece).hexdigest(),
        "content_length": len(piece),
    }
    redeemed = caller.redeem(key["token"], part).json()
    assert caller.use(redeemed, piece).status_code == 200
    caller.api.call("DELETE", f"/valet-keys/{key['key_id']}")
    # Even the URL that is out is dead: there is no upload that it could be part of.
    assert caller.use(redeemed, piece).status_code == 404
    s3, bucket = cloud.client("s3"), cloud.outputs["ValetBucketName"]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket, Prefix="incoming/")
    left = s3.list_object_versions(Bucket=bucket, Prefix=f"incoming/{key['key_id']}")
    assert not left.get("Versions")


def test_what_is_not_of_its_type_is_quarantined(caller: Caller) -> None:
    body = b"MZ\x90\x00" + bytes(200)
    key = caller.put(body)
    answer = caller.http.post(
        f"{caller.url}/valet-keys/{key['key_id']}/complete",
        headers={"Authorization": f"Bearer {caller.api.token}"},
    )
    problem(answer, 422, "wrong-content")
    down = caller.issue("download")
    problem(caller.redeem(down["token"]), 404, "object-not-found")


def test_s3_refuses_what_the_key_does_not_say(caller: Caller) -> None:
    key = caller.issue("upload", PDF, max_uses=10)

    def tried(body: bytes = PDF, **changes: str) -> int:
        redeemed = caller.redeem(key["token"]).json()
        headers = redeemed["headers"] | {k.replace("_", "-"): v for k, v in changes.items()}
        return caller.http.put(redeemed["url"], headers=headers, content=body).status_code

    assert tried(content_type="text/html") == 403
    assert tried(PDF + b"x", content_length=str(len(PDF) + 1)) == 403
    assert tried(PDF[:-1] + b"x") == 400
    redeemed = caller.redeem(key["token"]).json()
    elsewhere = redeemed["url"].replace(key["key_id"], "0" * 32)
    assert caller.http.put(elsewhere, headers=redeemed["headers"], content=PDF).status_code == 403
    first, second = (caller.redeem(key["token"]).json() for _ in range(2))
    assert caller.use(first, PDF).status_code == 200
    # If-None-Match: it lands once; where S3's event has committed it meanwhile, a second in vain.
    assert caller.use(second, PDF).status_code in (412, 200)
    done = caller.complete(key)
    assert caller.complete(key) == done, "whatever lands, it is committed once"


def test_fifty_at_once_on_a_one_use_key_and_one_wins(caller: Caller) -> None:
    caller.complete(caller.put())
    down = caller.issue("download")
    answers: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(caller.redeem(down["token"])))
        for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(answer.status_code for answer in answers) == {200: 1, 410: 49}
    assert caller.api.get(f"/valet-keys/{down['key_id']}")["uses"] == 1


def test_a_token_is_verified_from_the_jwks_alone_and_introspected(caller: Caller) -> None:
    key = caller.issue("download")
    jwks = jwt.PyJWKSet.from_dict(caller.http.get(f"{caller.url}/.well-known/jwks.json").json())
    kid = jwt.get_unverified_header(key["token"])["kid"]
    claims = jwt.decode(key["token"], jwks[kid].key, algorithms=["ES256"], audience=AUDIENCE)
    assert (claims["jti"], claims["object"]) == (key["key_id"], caller.name)
    assert claims["exp"] == int(datetime.fromisoformat(key["expires_at"]).timestamp())

    def introspected() -> dict[str, Any]:
        answer: dict[str, Any] = caller.api.call(
            "POST", "/valet-keys/introspect", data={"token": key["token"]}
        ).json()
        return answer

    assert introspected()["active"] is True
    caller.api.call("DELETE", f"/valet-keys/{key['key_id']}")
    assert introspected() == {"active": False}


def test_the_bound_of_a_revocation(caller: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    """New redeems are refused at once; what was given out is dead after its life and the skew."""
    caller.complete(caller.put())
    down = caller.issue("download", max_uses=100)
    redeemed = caller.redeem(down["token"]).json()
    assert caller.use(redeemed).status_code == 200
    caller.api.call("DELETE", f"/valet-keys/{down['key_id']}")
    revoked = time.monotonic()
    problem(caller.redeem(down["token"]), 410, "key-revoked")
    refused = time.monotonic() - revoked
    while caller.use(redeemed).status_code == 200:
        assert time.monotonic() - revoked < URL_LIFE + SKEW, "a URL outlives its bound"
        time.sleep(0.1)
    dead = time.monotonic() - revoked
    with capsys.disabled():
        print(
            f"\nrevoked: new redeems refused after {refused:.2f} s, the URL dead after {dead:.2f} s"
        )
    assert dead <= URL_LIFE + SKEW
    caller.api.call("DELETE", f"/valet-keys/{down['key_id']}")


def test_a_revoked_upload_never_becomes_visible(caller: Caller) -> None:
    key = caller.issue("upload", PDF)
    redeemed = caller.redeem(key["token"]).json()
    caller.api.call("DELETE", f"/valet-keys/{key['key_id']}")
    caller.use(redeemed, PDF)
    answer = caller.http.post(
        f"{caller.url}/valet-keys/{key['key_id']}/complete",
        headers={"Authorization": f"Bearer {caller.api.token}"},
    )
    problem(answer, 410, "key-revoked")
    problem(caller.redeem(caller.issue("download")["token"]), 404, "object-not-found")
