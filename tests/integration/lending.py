"""Valet keys beside sagas: what steps store lies in moto's S3, and the API lends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import recourse.functions.valet
from recourse.declare.step import Document
from recourse.functions import kit
from tests.ground import Ground
from tests.valet.conftest import Ground as ValetGround

DOCUMENTS, URL = "documents", "https://api.example"


class _Stored(dict[str, Document]):
    """The documents of a ground, which are put into S3 as well."""

    def __init__(self, s3: Any) -> None:
        super().__init__()
        self._s3 = s3

    def __setitem__(self, key: str, document: Document) -> None:
        super().__setitem__(key, document)
        self._s3.put_object(
            Bucket=DOCUMENTS, Key=key, Body=document.body, ContentType=document.content_type
        )


@contextmanager
def lending(ground: Ground) -> Iterator[ValetGround]:
    """The server side of valet keys on a ground for sagas, as long as the block lasts."""
    valet = ValetGround()
    valet.s3.create_bucket(Bucket=DOCUMENTS)
    valet.s3.put_bucket_versioning(Bucket=DOCUMENTS, VersioningConfiguration={"Status": "Enabled"})
    ground.documents = _Stored(valet.s3)
    with (
        mock.patch.dict("os.environ", {"DOCUMENTS_BUCKET": DOCUMENTS, "PUBLIC_URL": URL}),
        mock.patch.dict("os.environ", {"VALET_TABLE": "valet"}),
        mock.patch.object(kit, "valet_keys", lambda: valet.keys),
        mock.patch.object(kit, "valet_issuer", lambda: valet.issuer),
        mock.patch.object(kit, "valet_committer", lambda: valet.committer),
        mock.patch.object(recourse.functions.valet, "redeemer", lambda: valet.redeemer),
    ):
        yield valet
