"""The life of a key through the API: issued, redeemed, used up, expired, revoked, shown."""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from cryptography.hazmat.primitives.asymmetric import ec

from recourse.errors import ContentionError
from recourse.store.aws import THROTTLE_CODES
from recourse.store.credentials import Credentials
from recourse.valet import keys as keys_module
from recourse.valet.issue import LENT_SECONDS, LENT_USES
from recourse.valet.keys import KEY_RATE, MINUTE, Actor
from recourse.valet.objects import URL_LIFE
from recourse.valet.token import AUDIENCE, Claims, LocalSigner, sign
from tests.valet.conftest import BUCKET, ISSUER, NOW, PDF, Ground, problem, sha256

FORM = "application/x-www-form-urlencoded"


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


# Issue.


def test_a_key_is_issued_with_its_token_and_its_link(valet: Ground) -> None:
    key = valet.issue("download", expires_in=60)
    assert set(key) == {"key_id", "token", "link", "expires_at", "object", "multipart"}
    assert key["expires_at"] == moment(int(NOW) + 60)
    assert key["link"] == f"https://api.example/v/{key['token']}"
    assert key["multipart"] is None
    claims = jwt.decode(key["token"], options={"verify_signature": False})
    assert claims == {
        "iss": ISSUER,
        "sub": "asha",
        "aud": AUDIENCE,
        "operation": "download",
        "object": "passports/asha.pdf",
        "exp": int(NOW) + 60,
        "iat": int(NOW),
        "jti": key["key_id"],
    }


def test_a_key_does_not_outlive_credentials_that_nobody_renews(valet: Ground) -> None:
    valet.credentials = Credentials("A", "s", "t", expires=NOW + 30)
    key = valet.issue("download", expires_in=900)
    assert key["expires_at"] == moment(int(NOW + 30))
    valet.credentials = Credentials("A", "s", "t", expires=NOW - 1)
    asked = {"operation": "download", "object": "a"}
    problem(valet.call("POST", "/valet-keys", asked), 503, "try-again")


def upload(**changes: Any) -> dict[str, Any]:
    wanted = {"content_type": "application/pdf", "content_length": 3, "sha256": sha256(b"abc")}
    return {"operation": "upload", "object": "a.pdf", "upload": wanted | changes}


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        ({"operation": "delete", "object": "a"}, "invalid", "operation"),
        ({"operation": "download"}, "invalid", "object"),
        ({"operation": "download", "object": "a", "owner": "ravi"}, "invalid", "owner"),
        ({"operation": "download", "object": "a", "expires_in": 0}, "invalid", "expires_in"),
        ({"operation": "download", "object": "a", "expires_in": 604801}, "invalid", "expires_in"),
        ({"operation": "download", "object": "a", "expires_in": True}, "invalid", "expires_in"),
        ({"operation": "download", "object": "a", "max_uses": 0}, "invalid", "max_uses"),
        ({"operation": "upload", "object": "a"}, "invalid", "upload"),
        (upload() | {"operation": "download"}, "invalid", "upload"),
        (upload(content_length=0), "invalid", "upload.content_length"),
        (upload(content_length=5 * 1024**3 + 1), "invalid", "upload.content_length"),
        (upload(sha256="x" * 64), "invalid", "upload.sha256"),
        (upload(sha256=sha256(b"").upper()), "invalid", "upload.sha256"),
        (
            upload(content_type="application/pdf\nx: y"),
            "unknown-content-type",
            "upload.content_type",
        ),
        (upload(content_type="pdf"), "unknown-content-type", "upload.content_type"),
        (
            upload(content_type="application/x-nobody-knows"),
            "unknown-content-type",
            "upload.content_type",
        ),
        (upload() | {"object": "../ravi/a.pdf"}, "bad-object-name", "object"),
        (upload() | {"object": "a\u2215b"}, "bad-object-name", "object"),
    ],
)
def test_what_cannot_be_issued_names_the_field(
    valet: Ground, body: dict[str, Any], kind: str, field: str
) -> None:
    found = problem(valet.call("POST", "/valet-keys", body), 422, kind)
    assert [error["field"] for error in found["errors"]] == [field]


def test_issuing_needs_a_bearer_with_the_scope(valet: Ground) -> None:
    asked = {"operation": "download", "object": "a"}
    problem(valet.call("POST", "/valet-keys", asked, subject=None), 401, "unauthorized")
    for scope in ("sagas:write", "operator"):
        problem(valet.call("POST", "/valet-keys", asked, scope=scope), 403, "forbidden")


# Redeem.


def test_an_upload_is_bound_to_the_byte(valet: Ground) -> None:
    key = valet.issue()
    redeemed = valet.redeem(key["token"]).json
    assert redeemed["method"] == "PUT"
    assert redeemed["headers"] == {
        "content-length": str(len(PDF)),
        "content-type": "application/pdf",
        "if-none-match": "*",
        "x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(sha256(PDF))).decode(),
    }
    url = urlsplit(redeemed["url"])
    query = parse_qs(url.query)
    assert url.path == f"/incoming/{key['key_id']}"
    assert query["X-Amz-SignedHeaders"] == [
        "content-length;content-type;host;if-none-match;x-amz-checksum-sha256"
    ]
    assert query["x-valet-key"] == [key["key_id"]]
    assert query["X-Amz-Expires"] == [str(URL_LIFE)]
    assert redeemed["expires_at"] == moment(int(NOW) + URL_LIFE)


def test_a_download_is_pinned_attached_and_safe(valet: Ground) -> None:
    done = valet.show(valet.uploaded("a/é.html", b"<html></html>", content_type="text/html")).json
    redeemed = valet.redeem(valet.issue("download", "a/é.html")["token"]).json
    query = parse_qs(urlsplit(redeemed["url"]).query)
    assert (redeemed["method"], redeemed["headers"]) == ("GET", {})
    assert query["versionId"] == [done["outcome"]["version"]]
    assert query["response-content-type"] == ["application/octet-stream"]
    assert query["response-content-disposition"] == ["attachment; filename*=UTF-8''%C3%A9.html"]


def test_a_download_of_what_is_not_there_is_not_counted(valet: Ground) -> None:
    key = valet.issue("download")
    problem(valet.redeem(key["token"]), 404, "object-not-found")
    valet.uploaded()
    assert valet.redeem(key["token"]).status == 200
    assert valet.show(key["key_id"]).json["uses"] == 1


def test_a_url_does_not_outlive_the_key_nor_the_signer(valet: Ground) -> None:
    key = valet.issue(expires_in=4, max_uses=9)
    assert valet.redeem(key["token"]).json["expires_at"] == key["expires_at"]
    valet.credentials = Credentials("A", "s", "t", expires=NOW + 2)
    assert valet.redeem(key["token"]).json["expires_at"] == moment(int(NOW + 2))
    valet.credentials = Credentials("A", "s", "t", expires=NOW)
    problem(valet.redeem(key["token"]), 503, "try-again")
    assert valet.show(key["key_id"]).json["uses"] == 2


def test_a_link_is_a_307_that_tells_nobody_where_it_was(valet: Ground) -> None:
    valet.uploaded()
    key = valet.issue("download")
    answer = valet.call("GET", f"/v/{key['token']}", subject=None)
    assert (answer.status, answer.text) == (307, "")
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert urlsplit(answer.headers["location"]).path == "/objects/asha/passports/asha.pdf"
    assert valet.audit(key["key_id"]) == [("issue", "allowed"), ("follow", "allowed")]


def test_a_link_with_a_bearer_is_refused_before_s3_would_refuse_it(valet: Ground) -> None:
    valet.uploaded()
    key = valet.issue("download")
    answer = valet.call("GET", f"/v/{key['token']}", subject=None, Authorization="Bearer x")
    problem(answer, 400, "bearer-on-link")
    assert valet.audit(key["key_id"])[-1] == ("follow", "bearer-on-link")
    assert valet.show(key["key_id"]).json["uses"] == 0


def test_an_upload_is_no_link(valet: Ground) -> None:
    key = valet.issue()
    problem(valet.call("GET", f"/v/{key['token']}", subject=None), 403, "out-of-scope")
    assert valet.audit(key["key_id"])[-1] == ("follow", "out-of-scope")


def test_a_used_up_an_expired_and_a_revoked_key_are_three_problems(valet: Ground) -> None:
    used, expired, revoked = (valet.issue(expires_in=60) for _ in range(3))
    assert valet.redeem(used["token"]).status == 200
    problem(valet.redeem(used["token"]), 410, "key-used-up")
    assert valet.revoke(revoked["key_id"]).status == 204
    problem(valet.redeem(revoked["token"]), 410, "key-revoked")
    valet.now += 60
    problem(valet.redeem(expired["token"]), 410, "key-expired")
    refused = {
        valet.show(key["key_id"]).json["status"]: valet.audit(key["key_id"])[-1]
        for key in (used, expired, revoked)
    }
    assert valet.show(used["key_id"]).json["uses"] == 1
    assert refused["REVOKED"] == ("redeem", "key-revoked")
    assert refused["EXPIRED"] in [("redeem", "key-expired"), ("redeem", "key-used-up")]


def test_a_key_is_good_until_the_second_it_expires(valet: Ground) -> None:
    key = valet.issue(expires_in=60, max_uses=9)
    valet.now = int(NOW) + 59.999
    redeemed = valet.redeem(key["token"])
    assert redeemed.json["expires_at"] == key["expires_at"]
    valet.now = int(NOW) + 60
    problem(valet.redeem(key["token"]), 410, "key-expired")


@pytest.mark.parametrize("by", ["issuer", "audience", "key"])
def test_a_token_by_or_for_somebody_else(valet: Ground, by: str) -> None:
    key = valet.issue("download")
    said = jwt.decode(key["token"], options={"verify_signature": False})
    changed = Claims(**said | {"issuer": {"iss": "x"}, "audience": {"aud": "x"}}.get(by, {}))
    signer = LocalSigner(ec.generate_private_key(ec.SECP256R1())) if by == "key" else valet.signer
    answer = valet.redeem(sign(changed, signer))
    problem(answer, *((401, "bad-token") if by == "key" else (403, "out-of-scope")))


def test_a_tampered_token_is_refused_and_nothing_is_written(valet: Ground) -> None:
    valet.uploaded()
    key = valet.issue("download")
    head, payload, signature = key["token"].split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    other = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "ravi"}).encode()).decode()
    for token in (f"{head}.{other.rstrip('=')}.{signature}", "x", "", "a.b.c", key["token"] + "x"):
        problem(valet.redeem(token), 401, "bad-token")
    assert valet.audit(key["key_id"]) == [("issue", "allowed")]


@pytest.mark.parametrize(
    ("body", "status", "kind", "field"),
    [
        (b"{", 400, "malformed", None),
        (b"\xff", 400, "malformed", None),
        (b"[]", 422, "invalid", None),
        (b"x" * 20_000, 413, "too-large", None),
        ({}, 422, "invalid", "token"),
        ({"token": 1}, 422, "invalid", "token"),
        ({"token": "x", "upload_id": "y"}, 422, "invalid", "upload_id"),
        ({"token": "x", "part": 1}, 422, "invalid", "part"),
        ({"token": "x", "part": {"number": True}}, 422, "invalid", "part.number"),
        ({"token": "x", "part": {"number": 1, "key": "k"}}, 422, "invalid", "part.key"),
        (
            {"token": "x", "part": {"number": 1, "content_length": 1, "sha256": "F" * 64}},
            422,
            "invalid",
            "part.sha256",
        ),
    ],
)
def test_a_redeem_that_cannot_be_read(
    valet: Ground, body: Any, status: int, kind: str, field: str | None
) -> None:
    found = problem(valet.call("POST", "/valet-keys/redeem", body, subject=None), status, kind)
    assert [error["field"] for error in found.get("errors", [])] == ([field] if field else [])


def test_a_redeem_is_json(valet: Ground) -> None:
    answer = valet.call("POST", "/valet-keys/redeem", b"token=x", subject=None, Content_Type=FORM)
    problem(answer, 415, "not-json")


def test_of_fifty_at_once_on_a_one_use_key_one_wins(valet: Ground) -> None:
    valet.uploaded()
    key = valet.issue("download")
    gate = threading.Barrier(50)
    answers: list[Any] = []

    def redeem() -> None:
        gate.wait()
        answers.append(valet.redeem(key["token"]))

    threads = [threading.Thread(target=redeem) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(answer.status for answer in answers) == {200: 1, 410: 49}
    shown = valet.show(key["key_id"]).json
    assert shown["uses"] == 1
    # A day's refusals for one reason are one row that counts them: a flood hides nothing.
    redeems = [row for row in shown["audit"] if row["action"] == "redeem"]
    assert {row["outcome"]: row.get("count") for row in redeems} == {
        "allowed": None,
        "key-used-up": 49,
    }
    assert len(redeems) == 2


def test_a_key_may_be_redeemed_so_often_in_a_minute(
    valet: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recourse.valet.redeem.KEY_RATE", 3)
    key, other = valet.issue(max_uses=99), valet.issue(max_uses=99)
    for _ in range(3):
        assert valet.redeem(key["token"]).status == 200
    answer = valet.redeem(key["token"])
    problem(answer, 429, "too-often")
    assert answer.headers["retry-after"] == "60"
    assert valet.show(key["key_id"]).json["uses"] == 3
    assert valet.redeem(other["token"]).status == 200
    valet.now += MINUTE
    assert valet.redeem(key["token"]).status == 200
    assert KEY_RATE >= 300


def test_an_owner_may_use_all_its_keys_so_often_in_a_minute(
    valet: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "OWNER_RATE", 4)
    one, other = valet.issue(max_uses=99), valet.issue(max_uses=99)
    assert valet.redeem(one["token"]).status == 200
    assert valet.redeem(other["token"]).status == 200
    problem(valet.redeem(one["token"]), 429, "too-often")
    asked = {"operation": "download", "object": "a"}
    problem(valet.call("POST", "/valet-keys", asked), 429, "too-often")
    assert valet.call("POST", "/valet-keys", asked, subject="ravi").status == 201


def test_redeeming_is_one_read_and_one_write(valet: Ground) -> None:
    valet.uploaded()
    key = valet.issue("download", max_uses=9)
    valet.redeem(key["token"])
    asked: list[str] = []
    record: Any = lambda model, **_: asked.append(model.name)  # noqa: E731
    valet.dynamodb.meta.events.register("before-call.dynamodb", record)
    assert valet.redeem(key["token"]).status == 200
    assert asked == ["BatchGetItem", "TransactWriteItems"]
    asked.clear()
    valet.issue("download")
    assert asked == ["TransactWriteItems"]


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (EndpointConnectionError(endpoint_url="x"), 503, "try-again"),
        (ContentionError("others"), 503, "try-again"),
        *(
            (
                ClientError(
                    {
                        "Error": {"Code": code},
                        "ResponseMetadata": {"HTTPStatusCode": 400},  # type: ignore[typeddict-item]
                    },
                    "x",
                ),
                503,
                "try-again",
            )
            for code in sorted(THROTTLE_CODES)
        ),
        (
            ClientError(
                {
                    "Error": {"Code": "AccessDeniedException"},
                    "ResponseMetadata": {"HTTPStatusCode": 400},  # type: ignore[typeddict-item]
                },
                "x",
            ),
            500,
            "internal",
        ),
        (KeyError("x"), 500, "internal"),
    ],
)
def test_what_is_our_fault_is_said_to_be(
    valet: Ground, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, kind: str
) -> None:
    key = valet.issue("download")

    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("recourse.functions.valet.logger.exception", lambda *_: None)
    monkeypatch.setattr(type(valet.keys.table), "get_many", fail)
    problem(valet.redeem(key["token"]), status, kind)


# Seeing and revoking.


def test_anothers_key_is_as_if_it_were_not_there(valet: Ground) -> None:
    key = valet.issue()["key_id"]
    for answer in (
        valet.show(key, subject="ravi"),
        valet.revoke(key, subject="ravi"),
        valet.revoke(key, "?withdraw=true", subject="ravi"),
        valet.complete(key, subject="ravi"),
        valet.show("0" * 32),
        valet.revoke("0" * 32),
        valet.complete("0" * 32),
        valet.show("x" * 500),
        valet.show("a%2Fb"),
    ):
        problem(answer, 404, "not-found")
    assert valet.call("GET", "/valet-keys", subject="ravi").json == {"items": [], "cursor": None}
    assert valet.show(key).json["status"] == "ACTIVE"


def test_an_operator_sees_and_revokes_everybodys(valet: Ground) -> None:
    key = valet.issue()["key_id"]
    assert valet.show(key, subject="olga", scope="operator").json["owner"] == "asha"
    assert valet.revoke(key, subject="olga", scope="operator").status == 204
    audit = valet.show(key).json["audit"]
    assert (audit[0]["action"], audit[0]["caller"]) == ("revoke", "olga")  # the newest
    assert {row["address"] for row in audit} == {"192.0.2.7"}


def test_revoking_again_changes_nothing(valet: Ground) -> None:
    key = valet.issue()["key_id"]
    assert [valet.revoke(key).status for _ in range(3)] == [204, 204, 204]
    assert valet.audit(key) == [("issue", "allowed"), ("revoke", "allowed")]
    problem(valet.revoke(key, "?withdraw=perhaps"), 422, "invalid")


def test_keys_are_listed_newest_first_in_pages(valet: Ground) -> None:
    issued = []
    for _ in range(5):
        valet.now += 1
        issued.append(valet.issue("download")["key_id"])
    seen: list[str] = []
    cursor, pages = "", 0
    while True:
        page = valet.call("GET", f"/valet-keys?limit=2{cursor}").json
        seen += [item["key_id"] for item in page["items"]]
        pages += 1
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert (seen, pages) == (issued[::-1], 3)
    assert "token" not in page["items"][0]
    problem(valet.call("GET", "/valet-keys?cursor=x"), 400, "bad-cursor")
    problem(valet.call("GET", "/valet-keys?limit=0"), 422, "invalid")


# For other resource servers.


def introspect(valet: Ground, token: str, **options: Any) -> Any:
    body = urlencode({"token": token}).encode()
    return valet.call("POST", "/valet-keys/introspect", body, Content_Type=FORM, **options)


def test_introspection_says_whether_a_key_is_still_good(valet: Ground) -> None:
    key = valet.issue("download")
    good = introspect(valet, key["token"]).json
    assert good["active"] is True
    assert (good["sub"], good["jti"], good["operation"]) == ("asha", key["key_id"], "download")
    assert introspect(valet, "none of ours").json == {"active": False}
    valet.revoke(key["key_id"])
    assert introspect(valet, key["token"]).json == {"active": False}
    expiring = valet.issue("download", expires_in=5)
    valet.now += 5
    assert introspect(valet, expiring["token"]).json == {"active": False}


def test_introspection_says_of_a_token_what_redeeming_it_does(valet: Ground) -> None:
    """Also where its key was renewed, used up or revoked, or signed by the key before."""
    stored = {"bucket": BUCKET, "key": "k", "version": "v", "content_type": "application/pdf"}
    by = Actor("asha", "192.0.2.7")

    def lend() -> str:
        token = valet.issuer.lend("invoice", "asha", "invoice.pdf", lambda: stored, by)
        assert token
        return token

    def agree(token: str, usable: bool) -> None:
        # Asked first: to redeem is to use.
        assert introspect(valet, token).json["active"] is usable
        assert (valet.redeem(token).status == 200) is usable

    first = lend()
    agree(first, usable=True)
    valet.now += LENT_SECONDS
    agree(first, usable=False)
    renewed = lend()
    agree(renewed, usable=True)
    agree(first, usable=False)
    valet.rotate(LocalSigner(ec.generate_private_key(ec.SECP256R1())))
    agree(renewed, usable=True)
    key_id = introspect(valet, renewed).json["jti"]
    valet.keys.table.update(f"key#{key_id}", set={"uses": LENT_USES})
    agree(renewed, usable=False)
    valet.keys.table.update(f"key#{key_id}", set={"uses": 0})
    agree(renewed, usable=True)
    valet.revoke(key_id)
    agree(renewed, usable=False)


def test_introspection_takes_a_form_and_a_scope(valet: Ground) -> None:
    problem(valet.call("POST", "/valet-keys/introspect", {"token": "x"}), 415, "not-a-form")
    for body in (b"", b"token=a&token=b", b"other=x"):
        answer = valet.call("POST", "/valet-keys/introspect", body, Content_Type=FORM)
        problem(answer, 422, "invalid")
    problem(introspect(valet, "x", scope="sagas:read"), 403, "forbidden")
    problem(introspect(valet, "x", subject=None), 401, "unauthorized")


def test_the_jwks_keeps_the_keys_of_before_a_rotation(valet: Ground) -> None:
    before = valet.issue(max_uses=9)
    assert valet.redeem(before["token"]).status == 200
    valet.rotate(LocalSigner(ec.generate_private_key(ec.SECP256R1())))
    after = valet.issue()
    answer = valet.call("GET", "/.well-known/jwks.json", subject=None)
    known = jwt.PyJWKSet.from_dict(answer.json)
    assert len(answer.json["keys"]) == 2
    for key in (before, after):
        kid = jwt.get_unverified_header(key["token"])["kid"]
        options = {"verify_iat": False, "verify_exp": False}
        found = jwt.decode(
            key["token"],
            known[kid].key,
            algorithms=["ES256"],
            audience=AUDIENCE,
            options=options,  # type: ignore[arg-type]
        )
        assert found["jti"] == key["key_id"]
        assert valet.redeem(key["token"]).status == 200
