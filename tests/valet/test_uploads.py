"""What becomes of uploads: visible once, quarantined, or never; whoever comes first."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from recourse.testing.calls import before
from recourse.valet import commit as commit_module
from recourse.valet import issue as issue_module
from tests.valet.conftest import BUCKET, PDF, Ground, problem, sha256

MIB = 1024**2
MZ = b"MZ\x90\x00" + bytes(200)


def test_an_upload_is_visible_once_it_is_completed(valet: Ground) -> None:
    key = valet.issue()["key_id"]
    down = valet.issue("download")
    valet.land(key)
    problem(valet.redeem(down["token"]), 404, "object-not-found")
    done = valet.complete(key)
    assert done.status == 200
    assert {name: done.json[name] for name in ("object", "content_type", "sha256")} == {
        "object": "passports/asha.pdf",
        "content_type": "application/pdf",
        "sha256": sha256(PDF),
    }
    assert valet.complete(key).json == done.json
    valet.tell(key)
    assert valet.redeem(down["token"]).status == 200
    assert valet.stored("objects/") == ["objects/asha/passports/asha.pdf"]
    assert valet.stored("incoming/") == []
    assert valet.audit(key) == [("issue", "allowed"), ("complete", "allowed")]
    assert valet.show(key).json["status"] == "COMPLETED"


def test_s3s_event_completes_it_as_well(valet: Ground) -> None:
    key = valet.issue()["key_id"]
    valet.land(key)
    valet.tell(key)
    shown = valet.show(key).json
    assert shown["status"] == "COMPLETED"
    newest = shown["audit"][0]
    assert (newest["caller"], newest["outcome"]) == ("s3", "allowed")
    assert valet.complete(key).json == shown["outcome"]
    assert len(valet.stored("objects/")) == 1


def test_whoever_comes_first_commits_and_the_others_leave_no_copy(valet: Ground) -> None:
    key = valet.issue()["key_id"]
    valet.land(key)
    gate = threading.Barrier(6)
    answers: list[Any] = []

    def complete() -> None:
        gate.wait()
        answers.append(valet.complete(key))

    threads = [threading.Thread(target=complete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert Counter(valet.audit(key))["complete", "allowed"] == 1
    assert len(valet.stored("objects/")) == 1
    assert valet.stored("incoming/") == []


def test_a_revocation_between_the_copy_and_the_decision_wins(valet: Ground) -> None:
    key = valet.issue()["key_id"]
    valet.land(key)
    with before(lambda: valet.revoke(key)):
        problem(valet.complete(key), 410, "key-revoked")
    assert valet.stored("") == []
    problem(valet.redeem(valet.issue("download")["token"]), 404, "object-not-found")


def test_the_event_between_the_copy_and_the_decision_wins(valet: Ground) -> None:
    key = valet.issue()["key_id"]
    valet.land(key)
    with before(lambda: valet.tell(key)):
        done = valet.complete(key)
    assert (done.status, len(valet.stored("objects/"))) == (200, 1)
    assert valet.show(key).json["audit"][0]["caller"] == "s3"
    (version,) = valet.s3.list_object_versions(Bucket=BUCKET, Prefix="objects/")["Versions"]
    assert done.json["version"] == version["VersionId"]


def test_a_revoked_upload_never_becomes_visible(valet: Ground) -> None:
    key = valet.issue()["key_id"]
    valet.land(key)
    assert valet.revoke(key).status == 204
    assert valet.stored("") == []
    problem(valet.complete(key), 410, "key-revoked")
    valet.land(key)  # by a URL that was out
    valet.tell(key)
    assert valet.stored("") == []
    assert valet.audit(key)[-1] == ("complete", "key-revoked")


def test_completing_after_a_completed_key_was_revoked_is_a_410(valet: Ground) -> None:
    key = valet.uploaded()
    valet.revoke(key)
    problem(valet.complete(key), 410, "key-revoked")
    assert valet.redeem(valet.issue("download")["token"]).status == 200


def test_completing_nothing_says_so(valet: Ground) -> None:
    key = valet.issue(expires_in=60)["key_id"]
    problem(valet.complete(key), 409, "nothing-uploaded")
    assert valet.audit(key)[-1] == ("complete", "nothing-uploaded")
    valet.now += 60
    problem(valet.complete(key), 410, "key-expired")
    problem(valet.complete(valet.issue("download")["key_id"]), 409, "not-an-upload")


def test_a_completed_upload_takes_no_more(valet: Ground) -> None:
    key = valet.issue(max_uses=9)
    valet.land(key["key_id"])
    valet.complete(key["key_id"])
    problem(valet.redeem(key["token"]), 410, "key-used-up")
    valet.land(key["key_id"], PDF + b"%again")  # by a URL that was out
    valet.tell(key["key_id"])
    assert valet.stored("incoming/") == []
    assert len(valet.stored("objects/")) == 1


@pytest.mark.parametrize(
    ("content_type", "landed", "kind"),
    [
        ("application/pdf", MZ, "wrong-content"),
        ("image/png", PDF, "wrong-content"),
        ("text/plain", b"\xff\xfe\x00", "wrong-content"),
        ("text/csv", b"a,b\0", "wrong-content"),
    ],
)
def test_what_is_of_another_type_is_quarantined(
    valet: Ground, content_type: str, landed: bytes, kind: str
) -> None:
    key = valet.issue(body=landed, content_type=content_type)["key_id"]
    valet.land(key, landed)
    problem(valet.complete(key), 422, kind)
    problem(valet.complete(key), 422, kind)
    assert valet.stored("") == [f"quarantine/{key}"]
    assert valet.show(key).json["status"] == "QUARANTINED"
    assert valet.audit(key)[-1] == ("complete", kind)
    problem(valet.redeem(valet.issue("download")["token"]), 404, "object-not-found")


@pytest.mark.parametrize(
    ("landed", "kind"),
    [
        (PDF + b"x", "wrong-length"),
        (PDF[:-1], "wrong-length"),
        (PDF[:-1] + b"x", "wrong-hash"),
    ],
)
def test_what_has_another_length_or_hash_is_quarantined(
    valet: Ground, landed: bytes, kind: str
) -> None:
    """S3 refuses such an upload already; that is not taken on trust."""
    key = valet.issue()["key_id"]
    valet.land(key, landed)
    problem(valet.complete(key), 422, kind)
    assert valet.stored("") == [f"quarantine/{key}"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/pdf", PDF),
        ("application/pdf; charset=binary", PDF),
        ("IMAGE/PNG", b"\x89PNG\r\n\x1a\n" + bytes(60)),
        ("image/jpeg", b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(60)),
        ("text/plain", "résumé".encode() * 20_000),
        ("application/json", b'{"a": 1}'),
        ("application/zip", b"PK\x03\x04" + bytes(60)),
        ("application/octet-stream", MZ),
    ],
)
def test_what_is_of_its_type_is_taken(valet: Ground, content_type: str, body: bytes) -> None:
    assert valet.uploaded("a", body, content_type=content_type)


# Objects.


def test_a_new_version_replaces_the_one_before_and_what_is_out_stays_pinned(valet: Ground) -> None:
    first = valet.show(valet.uploaded()).json["outcome"]["version"]
    down = valet.issue("download", max_uses=2)
    assert f"versionId={first}" in valet.redeem(down["token"]).json["url"]
    second = valet.show(valet.uploaded(body=PDF + b"%2")).json["outcome"]["version"]
    assert f"versionId={second}" in valet.redeem(down["token"]).json["url"]


def test_revoking_one_key_leaves_the_object_to_the_others(valet: Ground) -> None:
    upload = valet.uploaded()
    one, other = valet.issue("download"), valet.issue("download")
    valet.revoke(one["key_id"])
    valet.revoke(upload)
    problem(valet.redeem(one["token"]), 410, "key-revoked")
    assert valet.redeem(other["token"]).status == 200


def test_withdrawing_the_object_ends_it_for_all_and_tags_the_version(valet: Ground) -> None:
    upload = valet.uploaded()
    version = valet.show(upload).json["outcome"]["version"]
    other = valet.issue("download")
    assert [valet.revoke(upload, "?withdraw=true").status for _ in range(2)] == [204, 204]
    problem(valet.redeem(other["token"]), 404, "object-not-found")
    tagged = valet.s3.get_object_tagging(
        Bucket=BUCKET, Key="objects/asha/passports/asha.pdf", VersionId=version
    )
    assert tagged["TagSet"] == [{"Key": "revoked", "Value": "true"}]
    assert valet.audit(upload)[-2:] == [("revoke", "allowed"), ("withdraw", "allowed")]
    valet.uploaded()
    assert valet.redeem(valet.issue("download")["token"]).status == 200


def test_withdrawing_what_is_not_there(valet: Ground) -> None:
    key = valet.issue("download")["key_id"]
    problem(valet.revoke(key, "?withdraw=true"), 404, "object-not-found")
    assert valet.show(key).json["status"] == "REVOKED"


def test_owners_do_not_see_each_others_objects(valet: Ground) -> None:
    valet.uploaded("a", subject="asha")
    token = valet.issue("download", "a", subject="ravi")["token"]
    problem(valet.redeem(token), 404, "object-not-found")


# In parts.

BODY = PDF + bytes(9 * MIB)


def part(body: bytes, number: int, size: int = 8 * MIB) -> dict[str, Any]:
    piece = body[(number - 1) * size : number * size]
    return {"number": number, "sha256": sha256(piece), "content_length": len(piece)}


def send(valet: Ground, key: dict[str, Any], number: int, body: bytes = BODY) -> None:
    """A part goes up, as its URL lets it."""
    row = valet.keys.get(key["key_id"])
    assert row.multipart is not None
    size = row.multipart["part_size"]
    valet.s3.upload_part(
        Bucket=BUCKET,
        Key=f"incoming/{key['key_id']}",
        UploadId=row.multipart["upload_id"],
        PartNumber=number,
        Body=body[(number - 1) * size : number * size],
        ChecksumAlgorithm="SHA256",
    )


def uploads(valet: Ground) -> list[str]:
    found = valet.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    return [one["Key"] for one in found]


def test_an_upload_from_8_mib_on_comes_in_parts(valet: Ground) -> None:
    assert valet.issue(body=bytes(8 * MIB - 1))["multipart"] is None
    assert valet.issue(body=bytes(8 * MIB))["multipart"] == {"part_size": 8 * MIB, "parts": 1}
    assert valet.issue(body=BODY)["multipart"] == {"part_size": 8 * MIB, "parts": 2}


@pytest.mark.parametrize("length", [8 * MIB, 8 * MIB + 1, 100 * MIB - 1, 5 * 1024**3])
def test_parts_add_up_to_the_length_and_are_as_large_as_s3_wants(
    valet: Ground, length: int
) -> None:
    wanted = {"content_length": length, "content_type": "application/octet-stream"}
    found = valet.issuer._multipart("k", wanted)
    assert found is not None
    size, parts = found["part_size"], found["parts"]
    assert 0 < length - size * (parts - 1) <= size
    assert size >= 5 * MIB and parts <= issue_module.MAX_PARTS


def test_a_part_is_bound_to_its_number_length_and_hash_and_to_the_rows_upload(
    valet: Ground,
) -> None:
    key = valet.issue(body=BODY)
    redeemed = valet.redeem(key["token"], part(BODY, 2)).json
    row = valet.keys.get(key["key_id"])
    assert row.multipart is not None
    assert f"uploadId={row.multipart['upload_id']}" in redeemed["url"]
    assert "partNumber=2" in redeemed["url"]
    assert redeemed["headers"].keys() == {"content-length", "x-amz-checksum-sha256"}
    assert redeemed["headers"]["content-length"] == str(len(BODY) - 8 * MIB)
    for _ in range(3):
        assert valet.redeem(key["token"], part(BODY, 1)).status == 200
    shown = valet.show(key["key_id"]).json
    assert (shown["uses"], shown["parts_redeemed"], shown["status"]) == (0, 4, "ACTIVE")
    assert "upload_id" not in shown["multipart"]


@pytest.mark.parametrize(
    "change",
    [{"number": 3}, {"content_length": 8 * MIB + 1}, {"content_length": 1}, {"number": 2}],
)
def test_a_part_of_another_upload_is_refused(valet: Ground, change: dict[str, int]) -> None:
    key = valet.issue(body=BODY)
    problem(valet.redeem(key["token"], part(BODY, 1) | change), 422, "wrong-part")
    assert valet.audit(key["key_id"])[-1] == ("redeem-part", "wrong-part")


def test_parts_and_wholes_are_not_mixed(valet: Ground) -> None:
    problem(valet.redeem(valet.issue(body=BODY)["token"]), 422, "wrong-part")
    problem(valet.redeem(valet.issue()["token"], part(BODY, 1)), 422, "wrong-part")
    valet.uploaded()
    problem(valet.redeem(valet.issue("download")["token"], part(BODY, 1)), 403, "out-of-scope")


@pytest.mark.parametrize("first", [1, 2])
def test_parts_are_put_together_by_completing(valet: Ground, first: int) -> None:
    key, other = valet.issue(body=BODY), 3 - first
    send(valet, key, first)
    found = problem(valet.complete(key["key_id"]), 409, "nothing-uploaded")
    assert found["detail"] == f"1 parts are missing: {other}"
    send(valet, key, other)
    done = valet.complete(key["key_id"])
    assert done.status == 200, done
    assert done.json["sha256"] == sha256(BODY)
    assert (uploads(valet), valet.stored("incoming/")) == ([], [])
    assert valet.complete(key["key_id"]).status == 200


def test_parts_that_are_not_what_was_said_are_quarantined(valet: Ground) -> None:
    """Each part may be what its redeem said; that the whole is what the key says is checked."""
    key = valet.issue(body=BODY)
    other = PDF + b"\1" * (9 * MIB)
    for number in (1, 2):
        send(valet, key, number, other)
    problem(valet.complete(key["key_id"]), 422, "wrong-hash")
    assert valet.stored("") == [f"quarantine/{key['key_id']}"]


def test_an_interrupted_upload_leaves_nothing_behind(valet: Ground) -> None:
    revoked, expired, completed = (valet.issue(body=BODY, expires_in=60) for _ in range(3))
    kept = valet.issue(body=BODY, expires_in=900)
    for key in (revoked, expired, completed, kept):
        send(valet, key, 1)
    valet.revoke(revoked["key_id"])
    valet.now += 60
    problem(valet.complete(completed["key_id"]), 410, "key-expired")
    assert len(uploads(valet)) == 2
    valet.sweep()
    assert uploads(valet) == [f"incoming/{kept['key_id']}"]
    assert valet.audit(expired["key_id"])[-1] == ("abort", "allowed")
    valet.sweep()
    assert uploads(valet) == [f"incoming/{kept['key_id']}"]


def test_an_upload_without_a_key_is_swept_once_nobody_can_be_issuing_it(valet: Ground) -> None:
    valet.s3.create_multipart_upload(Bucket=BUCKET, Key="incoming/orphan")
    (begun,) = valet.s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    valet.now = begun["Initiated"].timestamp() + 60
    valet.sweep()
    assert uploads(valet) == ["incoming/orphan"]
    valet.now += 3600
    valet.sweep()
    assert uploads(valet) == []


def test_an_upload_that_was_begun_for_a_key_that_is_not_issued_is_aborted(
    valet: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recourse.valet.keys.OWNER_RATE", 0)
    asked = {
        "operation": "upload",
        "object": "a",
        "upload": {
            "content_type": "application/pdf",
            "content_length": len(BODY),
            "sha256": sha256(BODY),
        },
    }
    valet.keys.table.transact([valet.keys.rate("owner#asha", 1)])
    problem(valet.call("POST", "/valet-keys", asked), 429, "too-often")
    assert uploads(valet) == []


def test_a_file_that_is_large_is_read_in_pieces(
    valet: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_module, "_CHUNK", 1000)
    key = valet.issue(body=BODY)
    for number in (1, 2):
        send(valet, key, number)
    assert valet.complete(key["key_id"]).json["sha256"] == sha256(BODY)
