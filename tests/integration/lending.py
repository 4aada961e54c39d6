"""Valet keys beside sagas: what steps store lies in moto's S3, and the API lends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from moto.s3.models import FakeKey

import recourse.functions.valet
from recourse.declare.step import Document
from recourse.functions import kit
from recourse.testing.patching import replaced
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
def closed() -> Iterator[None]:
    """Close what moto's objects hold open, which it forgets of versions that are deleted."""
    kept: list[Any] = []
    with ExitStack() as stack:
        for name in ("__init__", "__setstate__"):
            made = getattr(FakeKey, name)

            def begin(key: Any, *args: Any, made: Any = made, **more: Any) -> None:
                made(key, *args, **more)
                kept.append(key)

            stack.enter_context(replaced(FakeKey, name, begin))
        yield
    for key in kept:
        key.dispose()


@contextmanager
def lending(ground: Ground) -> Iterator[ValetGround]:
    """The server side of valet keys on a ground for sagas, as long as the block lasts."""
    valet = ValetGround()
    valet.s3.create_bucket(Bucket=DOCUMENTS)
    valet.s3.put_bucket_versioning(Bucket=DOCUMENTS, VersioningConfiguration={"Status": "Enabled"})
    ground.documents = _Stored(valet.s3)
    with (
        closed(),
        mock.patch.dict("os.environ", {"DOCUMENTS_BUCKET": DOCUMENTS, "PUBLIC_URL": URL}),
        mock.patch.dict("os.environ", {"VALET_TABLE": "valet"}),
        mock.patch.object(kit, "valet_keys", lambda: valet.keys),
        mock.patch.object(kit, "valet_issuer", lambda: valet.issuer),
        mock.patch.object(kit, "valet_committer", lambda: valet.committer),
        mock.patch.object(recourse.functions.valet, "redeemer", lambda: valet.redeemer),
    ):
        yield valet
