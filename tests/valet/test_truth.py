"""What a URL allows, asked of a strict S3: each refusal where something really refuses it.

moto takes any URL, and neither it nor ministack evaluates a bucket's policy; the verifier does both
with the policy of the synthesised template. What ministack refuses too is in `tests/e2e`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from recourse.valet.objects import URL_LIFE
from recourse.valet.sigv4 import presign
from tests.infra.assembly import Assembly, synthesise
from tests.infra.test_valet import statements
from tests.valet.conftest import BUCKET, CREDENTIALS, PDF, REGION, Ground
from tests.valet.test_uploads import BODY, MIB, part
from tests.valet.verifier import StrictS3, Told

pytestmark = pytest.mark.xdist_group("infra")
SIGNER = "<RedeemRole.Arn>"
Strict = Callable[..., StrictS3]


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Assembly]:
    """The app without and with malware scanning."""
    return {
        scan: synthesise(
            tmp_path_factory.mktemp(f"scan-{scan}"), {"malware_scan": scan}, judged=False
        )
        for scan in ("off", "on")
    }


@pytest.fixture
def strict(valet: Ground, templates: dict[str, Assembly]) -> Strict:
    """S3 as it is for whoever has nothing but a URL."""

    def made(scan: str = "off") -> StrictS3:
        policy = list(statements(templates[scan]).values())
        return StrictS3(
            valet.s3, BUCKET, REGION, lambda: CREDENTIALS, SIGNER, policy, lambda: valet.now
        )

    return made


def refused(told: Told, status: int, code: str) -> None:
    assert (told.status, told.code) == (status, code)


def send(s3: StrictS3, redeemed: dict[str, Any], body: bytes = PDF, **changes: str) -> Told:
    headers = {**redeemed["headers"], **{n.replace("_", "-"): v for n, v in changes.items()}}
    return s3.send(redeemed["method"], redeemed["url"], headers, body)


def test_an_upload_as_redeemed_is_taken_once(valet: Ground, strict: Strict) -> None:
    key = valet.issue(max_uses=2)
    one, other = (valet.redeem(key["token"]).json for _ in range(2))
    assert send(strict(), one).status == 200
    refused(send(strict(), one), 412, "PreconditionFailed")
    refused(send(strict(), other), 412, "PreconditionFailed")
    assert valet.complete(key["key_id"]).status == 200


def test_an_upload_that_is_not_as_said_is_refused(valet: Ground, strict: Strict) -> None:
    redeemed = valet.redeem(valet.issue()["token"]).json
    s3 = strict()
    refused(send(s3, redeemed, content_type="text/html"), 403, "SignatureDoesNotMatch")
    longer = str(len(PDF) + 1)
    refused(send(s3, redeemed, PDF + b"x", content_length=longer), 403, "SignatureDoesNotMatch")
    refused(send(s3, redeemed, PDF + b"x"), 400, "IncompleteBody")
    refused(send(s3, redeemed, PDF[:-1] + b"x"), 400, "BadDigest")
    refused(send(s3, redeemed, if_none_match='"x"'), 403, "SignatureDoesNotMatch")
    refused(send(s3, redeemed, x_amz_meta_scanned="clean"), 403, "AccessDenied")
    refused(send(s3, redeemed, x_amz_tagging="a=b"), 403, "AccessDenied")
    refused(send(s3, redeemed, authorization="Bearer x"), 400, "InvalidArgument")
    without = {n: v for n, v in redeemed["headers"].items() if n != "if-none-match"}
    refused(s3.send("PUT", redeemed["url"], without, PDF), 403, "SignatureDoesNotMatch")
    assert valet.stored("") == []


@pytest.mark.parametrize(
    ("there", "put"),
    [
        ("/incoming/", "/objects/ravi/"),
        ("x-valet-key=", "x-valet-key=0"),
        ("X-Amz-Expires=10", "X-Amz-Expires=9999"),
        ("us-east-1%2Fs3", "eu-west-1%2Fs3"),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
        (BUCKET, "another-bucket"),
    ],
)
def test_nothing_of_a_url_can_be_changed(
    valet: Ground, strict: Strict, there: str, put: str
) -> None:
    redeemed = valet.redeem(valet.issue()["token"]).json
    assert there in redeemed["url"]
    changed = redeemed | {"url": redeemed["url"].replace(there, put, 1)}
    refused(send(strict(), changed), 403, "SignatureDoesNotMatch")


def test_an_upload_cannot_be_used_to_read(valet: Ground, strict: Strict) -> None:
    redeemed = valet.redeem(valet.issue()["token"]).json
    refused(send(strict(), redeemed | {"method": "GET"}), 403, "SignatureDoesNotMatch")


def test_an_unsigned_request_is_refused(valet: Ground, strict: Strict) -> None:
    redeemed = valet.redeem(valet.issue()["token"]).json
    bare = redeemed["url"].partition("?")[0]
    refused(send(strict(), redeemed | {"url": bare}), 403, "AccessDenied")


def test_a_download_is_as_said_and_dies_with_its_url(valet: Ground, strict: Strict) -> None:
    valet.uploaded("a.html", b"<p>x", content_type="text/html")
    redeemed = valet.redeem(valet.issue("download", "a.html")["token"]).json
    told = send(strict(), redeemed, b"")
    assert (told.status, told.body) == (200, b"<p>x")
    assert told.headers == {
        "content-type": "application/octet-stream",
        "content-disposition": "attachment; filename*=UTF-8''a.html",
    }
    valet.now = int(valet.now) + URL_LIFE - 0.01
    assert send(strict(), redeemed, b"").status == 200
    valet.now += 0.01
    refused(send(strict(), redeemed, b""), 403, "AccessDenied")


def test_a_download_is_not_made_another_kind_of_file(valet: Ground, strict: Strict) -> None:
    valet.uploaded("a.html", b"<p>x", content_type="text/html")
    redeemed = valet.redeem(valet.issue("download", "a.html")["token"]).json
    for there, put in (("octet-stream", "xhtml%2Bxml"), ("attachment", "inline")):
        changed = redeemed | {"url": redeemed["url"].replace(there, put)}
        refused(send(strict(), changed, b""), 403, "SignatureDoesNotMatch")


def test_a_withdrawn_object_is_dead_at_once(valet: Ground, strict: Strict) -> None:
    upload = valet.uploaded()
    redeemed = valet.redeem(valet.issue("download")["token"]).json
    assert send(strict(), redeemed, b"").status == 200
    valet.revoke(upload, "?withdraw=true")
    refused(send(strict(), redeemed, b""), 403, "AccessDenied")


def test_revoking_a_key_leaves_what_is_out_to_its_ten_seconds(
    valet: Ground, strict: Strict
) -> None:
    valet.uploaded()
    down = valet.issue("download")
    redeemed = valet.redeem(down["token"]).json
    valet.revoke(down["key_id"])
    assert send(strict(), redeemed, b"").status == 200
    valet.now += URL_LIFE
    refused(send(strict(), redeemed, b""), 403, "AccessDenied")


def test_what_was_not_found_clean_is_hidden_where_uploads_are_scanned(
    valet: Ground, strict: Strict
) -> None:
    version = valet.show(valet.uploaded()).json["outcome"]["version"]
    redeemed = valet.redeem(valet.issue("download")["token"]).json
    assert send(strict("off"), redeemed, b"").status == 200
    s3 = strict("on")
    refused(send(s3, redeemed, b""), 403, "AccessDenied")
    for result, status in (("THREATS_FOUND", 403), ("NO_THREATS_FOUND", 200)):
        valet.s3.put_object_tagging(
            Bucket=BUCKET,
            Key="objects/asha/passports/asha.pdf",
            VersionId=version,
            Tagging={"TagSet": [{"Key": "GuardDutyMalwareScanStatus", "Value": result}]},
        )
        assert send(s3, redeemed, b"").status == status


def leaked(valet: Ground, key: str, *, expires: int = 600, age: int = 0) -> str:
    """A URL that nobody here signs: what the signer's credentials could be made to open."""
    return presign(
        "PUT",
        f"{BUCKET}.s3.{REGION}.amazonaws.com",
        f"/{key}",
        query={},
        headers={},
        credentials=CREDENTIALS,
        region=REGION,
        at=int(valet.now) - age,
        expires=expires,
    )


def test_the_policy_holds_whoever_has_stolen_the_signers_credentials(
    valet: Ground, strict: Strict
) -> None:
    s3 = strict()
    assert s3.send("PUT", leaked(valet, "incoming/x"), {}, b"x").status == 200
    old = leaked(valet, "incoming/y", age=60)
    refused(s3.send("PUT", old, {}, b"x"), 403, "AccessDenied")
    for elsewhere in ("quarantine/x", "invoices/x", "x"):
        refused(s3.send("PUT", leaked(valet, elsewhere), {}, b"x"), 403, "AccessDenied")
    plain = s3.send("PUT", leaked(valet, "incoming/z"), {}, b"x", tls=False)
    refused(plain, 403, "AccessDenied")


def test_a_part_is_taken_as_said_and_is_nobody_elses(valet: Ground, strict: Strict) -> None:
    key, other = (valet.issue("upload", name, BODY) for name in ("a", "b"))
    s3 = strict()
    piece = BODY[: 8 * MIB]
    redeemed = valet.redeem(key["token"], part(BODY, 1)).json
    assert send(s3, redeemed, piece).status == 200
    refused(send(s3, redeemed, b"x" + piece[1:]), 400, "BadDigest")
    ids = []
    for one in (key, other):
        multipart = valet.keys.get(one["key_id"]).multipart
        assert multipart is not None
        ids.append(multipart["upload_id"])
    swapped = redeemed | {"url": redeemed["url"].replace(*ids)}
    refused(send(s3, swapped, piece), 403, "SignatureDoesNotMatch")
    renumbered = redeemed | {"url": redeemed["url"].replace("partNumber=1", "partNumber=2")}
    refused(send(s3, renumbered, piece), 403, "SignatureDoesNotMatch")
    valet.revoke(key["key_id"])
    refused(send(s3, redeemed, piece), 404, "NoSuchUpload")


def test_a_clock_that_differs_a_little_is_borne_and_much_is_not(
    valet: Ground, strict: Strict
) -> None:
    """The signer's clock may be ahead of S3's by 15 minutes, and behind by what is left."""
    redeemed = valet.redeem(valet.issue()["token"]).json
    signed = valet.now
    valet.now = signed + URL_LIFE + 1
    refused(send(strict(), redeemed), 403, "AccessDenied")
    valet.now = signed - 16 * 60
    refused(send(strict(), redeemed), 403, "AccessDenied")
    valet.now = signed - 60
    assert send(strict(), redeemed).status == 200
