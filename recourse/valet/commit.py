"""Completing an upload: it becomes visible or is quarantined; decided once, in the key's row.

An upload lands in `incoming/<key id>`, where no key reads it. Completing checks that very version
and copies it to its place; the transaction that then marks the key's row COMPLETED and pins the
version in the object's row makes it visible. The API and S3's event may do this at the same time,
and a revocation may come between: the one that loses deletes its own copy again. A download needs
the object's row, so a copy that no row pins is never visible.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from recourse.errors import ContentionError
from recourse.store.contention import ConditionFailedError
from recourse.store.expressions import ABSENT
from recourse.valet import content
from recourse.valet.errors import (
    REFUSALS,
    ExpiredKeyError,
    NotAnUploadError,
    NothingUploadedError,
    RevokedKeyError,
    UnknownKeyError,
    UnknownObjectError,
    ValetError,
    WrongHashError,
    WrongLengthError,
)
from recourse.valet.keys import OPEN, Actor, Key, Keys, key_pk, moment, object_pk
from recourse.valet.names import incoming_key, object_key, quarantine_key
from recourse.valet.objects import in_base64

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

S3_EVENT = Actor("s3", "s3.amazonaws.com")
SWEEPER = Actor("sweeper", "localhost")
WITHDRAWN = {"TagSet": [{"Key": "revoked", "Value": "true"}]}
"""The tag on a version to which the bucket's policy denies access."""
_CHUNK = 1024 * 1024
_MISSING = {"404", "NoSuchKey", "NoSuchUpload", "NoSuchVersion"}
_UNDECIDED = (NotAnUploadError, NothingUploadedError, ExpiredKeyError, RevokedKeyError)
_KINDS = {refusal.kind: refusal for refusal in REFUSALS}


@dataclass(frozen=True)
class Committer:
    """Completes, revokes and cleans up.

    Args:
        keys: The valet table.
        s3: The client.
        bucket: Where the documents are.
    """

    keys: Keys
    s3: S3Client
    bucket: str

    def complete(self, key_id: str, by: Actor, owner: str | None = None) -> Mapping[str, Any]:
        """Complete an upload; idempotent: repeated, it returns the same.

        Args:
            key_id: The key's id.
            by: Who completes it.
            owner: The owner that the key must have; any if None, as for S3's event.

        Returns:
            What is visible now: `key_id`, `object`, `version`, `content_type`, `content_length`,
            `sha256`, `completed_at`.

        Raises:
            ValetError: The key was revoked, nothing was uploaded, or the upload is not what the key
                says: then it is in quarantine.
        """
        key = self.keys.get(key_id, owner)
        try:
            return self._complete(key, by)
        except _UNDECIDED as problem:
            self.keys.refused(key_id, "complete", problem, by)
            raise

    def _complete(self, key: Key, by: Actor) -> Mapping[str, Any]:
        if key.operation != "upload":
            raise NotAnUploadError("the key is for a download: only an upload is completed")
        if _is_open(key):
            try:
                key = self._decide(key, by)
            except (ConditionFailedError, NothingUploadedError, ClientError) as problem:
                if isinstance(problem, ClientError) and not _is_missing(problem):
                    raise
                # The other of API and S3 event decided meanwhile, and may have cleaned up already.
                key = self.keys.get(key.key_id)
                if _is_open(key):
                    raise
        self._clean_up(key)
        if key.revoked_at:
            raise RevokedKeyError(f"the key was revoked at {key.revoked_at}")
        assert key.outcome is not None
        if key.state == "QUARANTINED":
            raise _KINDS[key.outcome["kind"]](key.outcome["detail"])
        return key.outcome

    def _decide(self, key: Key, by: Actor) -> Key:
        """Check an upload, copy it to its place or to quarantine, and record the outcome."""
        upload = key.upload or {}
        found = self._landed(key)
        if found is None and key.multipart:
            found = self._assembled(key)
        if found is None:
            raise self._nothing(key)
        source: Any = {
            "Bucket": self.bucket,
            "Key": incoming_key(key.key_id),
            "VersionId": found["VersionId"],
        }
        try:
            proven = self._check(key, source, found)
        except ValetError as problem:
            self.s3.copy_object(
                Bucket=self.bucket,
                Key=quarantine_key(key.key_id),
                CopySource=source,
                TaggingDirective="REPLACE",
            )
            return self._settle(
                key,
                "QUARANTINED",
                {"kind": problem.kind, "detail": str(problem)},
                by,
                problem.kind,
            )
        place = object_key(key.owner, key.object)
        copied = self.s3.copy_object(
            Bucket=self.bucket,
            Key=place,
            CopySource=source,
            MetadataDirective="REPLACE",
            TaggingDirective="REPLACE",
            ContentType=proven,
            Metadata={"valet-key": key.key_id},
        )
        version = copied["VersionId"]
        outcome = {
            "key_id": key.key_id,
            "object": key.object,
            "version": version,
            **upload,
            "content_type": proven,
            "completed_at": moment(self.keys.clock()),
        }
        row = {
            "pk": object_pk(key.owner, key.object),
            "key": place,
            "state": "VISIBLE",
            **outcome,
        }
        try:
            return self._settle(key, "COMPLETED", outcome, by, "allowed", visible=row)
        except ConditionFailedError:
            self.s3.delete_object(Bucket=self.bucket, Key=place, VersionId=version)
            raise

    def _settle(
        self,
        key: Key,
        state: str,
        outcome: Mapping[str, Any],
        by: Actor,
        said: str,
        visible: Mapping[str, Any] | None = None,
    ) -> Key:
        operations = [
            self.keys.table.update_request(
                key_pk(key.key_id), set={"state": state, "outcome": outcome}, when=OPEN
            ),
            self.keys.audit(key.key_id, "complete", said, by),
        ]
        if visible:
            operations.append(self.keys.table.put_request(visible))
        self.keys.table.transact(operations)
        return self.keys.get(key.key_id)

    def _landed(self, key: Key) -> Any:
        """The landed upload, as HeadObject has it; None where there is none."""
        try:
            return self.s3.head_object(
                Bucket=self.bucket, Key=incoming_key(key.key_id), ChecksumMode="ENABLED"
            )
        except ClientError as problem:
            if _is_missing(problem):
                return None
            raise

    def _assembled(self, key: Key) -> Any:
        """The upload once its parts are assembled, as HeadObject has it."""
        assert key.multipart is not None and key.upload is not None
        if key.expires <= self.keys.clock():
            self._abort(key)
            raise ExpiredKeyError("the key expired before all parts were uploaded")
        parts = self._parts(key)
        missing = sorted(
            set(range(1, key.multipart["parts"] + 1)) - {p["PartNumber"] for p in parts}
        )
        if missing:
            shown = ", ".join(str(number) for number in missing[:20])
            raise NothingUploadedError(f"{len(missing)} parts are missing: {shown}")
        wanted: Any = [
            {name: part[name] for name in ("PartNumber", "ETag", "ChecksumSHA256") if name in part}
            for part in parts
        ]
        try:
            self.s3.complete_multipart_upload(
                Bucket=self.bucket,
                Key=incoming_key(key.key_id),
                UploadId=key.multipart["upload_id"],
                IfNoneMatch="*",
                MultipartUpload={"Parts": wanted},
            )
        except ClientError as problem:
            # A concurrent completion has assembled them.
            if problem.response["Error"]["Code"] not in _MISSING | {"PreconditionFailed"}:
                raise
        return self._landed(key)

    def _parts(self, key: Key) -> list[Any]:
        assert key.multipart is not None
        pages = self.s3.get_paginator("list_parts").paginate(
            Bucket=self.bucket,
            Key=incoming_key(key.key_id),
            UploadId=key.multipart["upload_id"],
        )
        try:
            return [part for page in pages for part in page.get("Parts", ())]
        except ClientError as problem:
            if _is_missing(problem):
                return []
            raise

    def _nothing(self, key: Key) -> ValetError:
        if key.expires <= self.keys.clock():
            return ExpiredKeyError("the key expired, and nothing was uploaded")
        return NothingUploadedError("upload first: redeem the token and send the bytes")

    def _check(self, key: Key, source: Any, found: Any) -> str:
        """Check the upload against the key: length, SHA-256, type by content, which is returned.

        S3's own checksum of a whole object is trusted; that of an upload in parts is a checksum of
        checksums, so its bytes are read.
        """
        upload = key.upload or {}
        if found["ContentLength"] != upload["content_length"]:
            raise WrongLengthError(
                f"must be {upload['content_length']} bytes, got {found['ContentLength']}"
            )
        known = None if key.multipart else found.get("ChecksumSHA256")
        if known is None:
            known = in_base64(self._digest(source))
        if known != in_base64(upload["sha256"]):
            raise WrongHashError(f"the SHA-256 must be {upload['sha256']}, got another")
        head = self.s3.get_object(**source, Range=f"bytes=0-{content.HEAD - 1}")["Body"].read()
        return content.check(upload["content_type"], head)

    def _digest(self, source: Any) -> str:
        digest = hashlib.sha256()
        for chunk in self.s3.get_object(**source)["Body"].iter_chunks(_CHUNK):
            digest.update(chunk)
        return digest.hexdigest()

    # Revoking and cleaning up.

    def revoke(self, key_id: str, by: Actor, owner: str | None = None) -> None:
        """Revoke a key: from now on it is not redeemed, and its upload never becomes visible.

        Idempotent: repeated, it only cleans up what may have been left behind.
        """
        key = self.keys.get(key_id, owner)
        if key.revoked_at is None:
            try:
                self.keys.table.transact(
                    [
                        self.keys.table.update_request(
                            key_pk(key_id),
                            set={"revoked_at": moment(self.keys.clock())},
                            when={"revoked_at": ABSENT},
                        ),
                        self.keys.audit(key_id, "revoke", "allowed", by),
                    ]
                )
            except ConditionFailedError as failed:
                if failed.rows.get(0) is None:
                    raise UnknownKeyError(f"valet key {key_id!r} does not exist") from None
            key = self.keys.get(key_id)
        self._clean_up(key)

    def withdraw(self, key_id: str, by: Actor, owner: str | None = None) -> None:
        """Revoke a key and withdraw its object: every URL to its version stops working at once.

        This is more than revoking the key: it ends downloads of the object by every key.

        Raises:
            UnknownObjectError: The object does not exist.
        """
        key = self.keys.get(key_id, owner)
        pk = object_pk(key.owner, key.object)
        stored = self.keys.row(pk)
        self.revoke(key_id, by)
        if stored is None:
            raise UnknownObjectError(f"object {key.object!r} does not exist")
        if stored["state"] != "WITHDRAWN":
            try:
                self.keys.table.transact(
                    [
                        self.keys.table.update_request(
                            pk, set={"state": "WITHDRAWN"}, when={"version": stored["version"]}
                        ),
                        self.keys.audit(key_id, "withdraw", "allowed", by),
                    ]
                )
            except ConditionFailedError:
                raise ContentionError("the object was replaced meanwhile") from None
        self.s3.put_object_tagging(
            Bucket=self.bucket,
            Key=stored["key"],
            VersionId=stored["version"],
            Tagging=WITHDRAWN,  # type: ignore[arg-type]
        )

    def sweep(self) -> list[str]:
        """Abort every multipart upload that can no longer be completed; returns their keys' ids."""
        pages = self.s3.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.bucket, Prefix=incoming_key("")
        )
        swept = []
        for upload in [one for page in pages for one in page.get("Uploads", ())]:
            key_id = upload["Key"].rpartition("/")[2]
            row = self.keys.row(key_pk(key_id))
            begun = upload["Initiated"].timestamp()
            if row is None:
                # Issuing begins the upload first and writes the row a moment later; if it died in
                # between, no row ever comes.
                stale = self.keys.clock() - begun > 3600
            else:
                stale = bool(row.get("revoked_at")) or row["expires"] <= self.keys.clock()
            if stale:
                self._abort_upload(key_id, upload["UploadId"])
                self.keys.table.transact([self.keys.audit(key_id, "abort", "allowed", SWEEPER)])
                swept.append(key_id)
        return swept

    def _clean_up(self, key: Key) -> None:
        """Delete the landed upload, once the row has decided."""
        if key.operation != "upload":
            return
        if key.multipart and key.state == "ISSUED":
            self._abort(key)
        found = self._landed(key)
        if found is not None:
            self.s3.delete_object(
                Bucket=self.bucket, Key=incoming_key(key.key_id), VersionId=found["VersionId"]
            )

    def _abort(self, key: Key) -> None:
        assert key.multipart is not None
        self._abort_upload(key.key_id, key.multipart["upload_id"])

    def _abort_upload(self, key_id: str, upload_id: str) -> None:
        try:
            self.s3.abort_multipart_upload(
                Bucket=self.bucket, Key=incoming_key(key_id), UploadId=upload_id
            )
        except ClientError as problem:
            if not _is_missing(problem):
                raise


def _is_open(key: Key) -> bool:
    return key.revoked_at is None and key.state == "ISSUED"


def _is_missing(problem: ClientError) -> bool:
    return problem.response["Error"]["Code"] in _MISSING
