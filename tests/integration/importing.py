"""Imports beside sagas on the ground: a file is uploaded as by a valet key, and imported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from recourse.functions import import_files, import_starts, kit
from recourse.imports.check import Checker
from recourse.imports.finish import Finisher, result_key
from recourse.imports.runs import ImportRuns
from recourse.imports.start import Starter
from recourse.testing.imports import importing as machine
from tests.ground import Ground
from tests.integration.calling import Answer, Caller
from tests.valet.conftest import BUCKET
from tests.valet.conftest import Ground as ValetGround

IN_TIME: Any = SimpleNamespace(get_remaining_time_in_millis=lambda: 100_000)
OWNER = "sagas:write sagas:read valet:issue"


@contextmanager
def importing(ground: Ground, valet: ValetGround) -> Iterator[None]:
    """The server side of imports, as long as the block lasts."""

    def files(event: dict[str, Any]) -> Any:
        return import_files.handler(event, None)

    def starts(event: dict[str, Any]) -> Any:
        return import_starts.handler(event, IN_TIME)

    s3 = valet.s3
    with (
        machine(ground, s3, BUCKET, files, starts) as (imports, arn),
        mock.patch.dict("os.environ", {"IMPORTS_TABLE": "imports", "VALET_BUCKET": BUCKET}),
    ):
        runs = ImportRuns(ground.sfn, arn, imports)
        checker = Checker(imports, s3, BUCKET, ground.sagas, valet.keys.missing)
        finisher = Finisher(imports, s3, BUCKET)
        with (
            mock.patch.object(kit, "imports", lambda: imports),
            mock.patch.object(kit, "import_runs", lambda: runs),
            mock.patch.object(kit, "import_checker", lambda: checker),
            mock.patch.object(kit, "import_finisher", lambda: finisher),
            mock.patch.object(
                kit,
                "import_starter",
                lambda log: Starter(
                    imports, kit.ledger(), kit.runs(), ground.room_for_imports, log
                ),
            ),
        ):
            yield


def upload(name: str, text: str | bytes, who: str = "asha", kind: str = "text/csv") -> None:
    """Upload a file as its owner."""
    body = text.encode() if isinstance(text, str) else text
    call = Caller(who, OWNER)
    about = {"content_type": kind, "content_length": len(body)}
    about["sha256"] = hashlib.sha256(body).hexdigest()
    key = call("POST", "/valet-keys", {"operation": "upload", "object": name, "upload": about})
    assert key.status == 201, key.text
    key_id = key.json["key_id"]
    kit.valet_committer().s3.put_object(
        Bucket=BUCKET, Key=f"incoming/{key_id}", Body=body, ChecksumAlgorithm="SHA256"
    )
    done = call("POST", f"/valet-keys/{key_id}/complete")
    assert done.status == 200, done.text


def begin(
    name: str, saga: str = "travel-booking", *, key: str = "i-1", who: str = "asha", **more: Any
) -> Answer:
    """Import a file that was uploaded."""
    body = {"saga": saga, "object": name, **more}
    return Caller(who, OWNER)("POST", "/imports", body, Idempotency_Key=key)


def imported(
    name: str, text: str | bytes, *, kind: str = "text/csv", **more: Any
) -> dict[str, Any]:
    """Upload a file and import it; the import, at rest."""
    upload(name, text, more.get("who", "asha"), kind)
    answer = begin(name, **more)
    assert answer.status == 202, answer.text
    found: dict[str, Any] = answer.json
    return found


def result(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What became of each row, by the file that says so."""
    got = kit.valet_committer().s3.get_object(Bucket=BUCKET, Key=result_key(found["import_id"]))
    return [json.loads(line) for line in got["Body"].read().splitlines()]
