"""An import beside the same sagas started one by one, on the ground and on the local cloud.

Measured are starts: from the call that begins until all sagas are recorded, from which on each
will run; of those by POST until the answer. On the local cloud also how the sagas of the import
end, which begin as there is room: none should be undone for want of it.
On the ground four fifths of the time is moto, which takes as long for the rows of a saga whether
they come alone or with others: so what has a bound there is how often DynamoDB is called.
Of memory it is what checking a file takes, in a process of its own: what starts a batch is given
that batch alone.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from bench import LOCAL, ROOT, memory
from bench.apart import apart
from bench.cloud import running
from bench.figures import Figure, say
from bench.samples import sample, things
from recourse.cli.api import Api
from recourse.cli.valet import uploaded
from recourse.imports.check import Checker
from recourse.imports.table import Import
from statemachines import SAGAS
from statemachines.travel_booking import TRAVEL_BOOKING

GROUND_ROWS, GROUND_POSTS = 10_000, 1_000
CLOUD_ROWS, CLOUD_POSTS = 1_000, 100
FASTER = 3
MANY, FEW = 100_000, 1_000
LOOK = 0.1
SAGA = TRAVEL_BOOKING.name


def measure() -> list[Figure]:
    """Start sagas from a file and one by one, and check files of different lengths."""
    return [*apart(_on_ground), _memory(), *_on_cloud()]


def _requests(count: int) -> Iterator[dict[str, Any]]:
    name = uuid.uuid4().hex[:8]
    for number in range(count):
        yield sample(TRAVEL_BOOKING) | {"trip_id": f"{name}-{number}"}


def _file(count: int) -> str:
    return "".join(json.dumps(one) + "\n" for one in _requests(count))


def _figure(
    where: str, rows: int, took: float, posts: int, took_each: float, least: float | None
) -> Figure:
    ours, theirs = rows / took, posts / took_each
    return Figure(
        what=f"sagas started a second from a file, {where}",
        size=f"{rows:,} rows; {posts:,} calls of POST",
        figure=f"{ours:.0f} sagas/s",
        alternative=f"one by one by POST: {theirs:.0f} sagas/s",
        ratio=ours / theirs,
        least=least,
    )


def _on_ground() -> list[Figure]:
    """Choreographed, so that a start runs nothing: on the ground runs go on in who starts them.

    As nothing ends meanwhile there is room for all, so that what it takes to begin them counts too.
    """
    from tests.ground import ground
    from tests.integration import calling, importing
    from tests.integration.test_api import standing

    with (
        ground() as made,
        mock.patch.object(made, "room_for_imports", lambda _: GROUND_ROWS),
        standing(made),
        mock.patch.object(calling, "must_be_described", lambda *_: None),
    ):
        for (kind, thing), body in things().items():
            made.put(kind, thing, body)
        asha = calling.Caller()
        path = f"/sagas/{SAGA}?coordination=choreography"
        requests = list(_requests(GROUND_POSTS))
        calls: Counter[str] = Counter()
        side = "post"

        def count(**_: Any) -> None:
            calls[side] += 1

        made.dynamodb.meta.events.register("before-call.dynamodb", count)
        began = time.perf_counter()
        for one in requests:
            answer = asha("POST", path, one, Idempotency_Key=one["trip_id"])
            assert answer.status == 202, answer.text
        took_each = time.perf_counter() - began
        side = "upload"
        importing.upload("trips.jsonl", _file(GROUND_ROWS), kind="application/x-ndjson")
        side = "import"
        began = time.perf_counter()
        found = importing.begin("trips.jsonl", coordination="choreography").json
        took = time.perf_counter() - began
        assert found["started"] == GROUND_ROWS, found
    ours, theirs = calls["import"] / GROUND_ROWS, calls["post"] / GROUND_POSTS
    return [
        Figure(
            what="sagas started by a call of DynamoDB from a file, on the ground",
            size=f"{GROUND_ROWS:,} rows; {GROUND_POSTS:,} calls of POST",
            figure=f"{1 / ours:.1f} sagas a call",
            alternative=f"one by one by POST: {1 / theirs:.1f} sagas a call",
            ratio=theirs / ours,
            least=FASTER,
        ),
        _figure("on the ground", GROUND_ROWS, took, GROUND_POSTS, took_each, None),
    ]


def _on_cloud() -> list[Figure]:
    folder = LOCAL / "bench" / "imports"
    shutil.rmtree(folder, ignore_errors=True)
    with running(ROOT, folder) as cloud, Api(cloud.api_url, cloud.token) as api:
        _posted(api, 5)
        _imported(api, cloud.api_url, folder, 5)
        took_each = _posted(api, CLOUD_POSTS)
        _until_quiet(api)
        took = _imported(api, cloud.api_url, folder, CLOUD_ROWS)
        ended = took + _until_quiet(api)
        undone = len(_undone(api))
        took_each += _posted(api, CLOUD_POSTS)
    return [
        _figure("on the local cloud", CLOUD_ROWS, took, 2 * CLOUD_POSTS, took_each, FASTER),
        Figure(
            what="sagas of an import that are undone for want of room, on the local cloud",
            size=f"{CLOUD_ROWS:,} rows",
            figure=f"{undone}; all had ended in {ended:.0f} s, {CLOUD_ROWS / ended:.1f} a second",
            alternative="none of them",
            ratio=undone / CLOUD_ROWS,
            most=0,
        ),
    ]


def _posted(api: Api, count: int) -> float:
    requests = list(_requests(count))
    began = time.perf_counter()
    for one in requests:
        api.start(SAGA, one, key=one["trip_id"])
    took = time.perf_counter() - began
    say(f"{count} by POST in {took:.1f} s")
    return took


def _imported(api: Api, url: str, folder: Path, count: int) -> float:
    file = folder / f"{uuid.uuid4().hex}.jsonl"
    file.write_text(_file(count))
    uploaded(api, url, file, file.name)
    asked = {"saga": SAGA, "object": file.name}
    began = time.perf_counter()
    found = api.ask("POST", "/imports", json=asked, headers={"Idempotency-Key": file.name})
    while found["status"] in ("CHECKING", "STARTING"):
        time.sleep(LOOK)
        found = api.read(api.poll(f"/imports/{found['import_id']}", {}))
    took = time.perf_counter() - began
    assert found["started"] == count, found
    say(f"{count} by an import in {took:.1f} s")
    return took


def _until_quiet(api: Api) -> float:
    """Wait until no saga runs, so that those of one side do not slow the other; for how long."""
    began = time.perf_counter()
    for status in ("RUNNING", "COMPENSATING"):
        while api.read(api.poll("/sagas", {}, status=status, limit=1))["items"]:
            time.sleep(1)
    return time.perf_counter() - began


def _undone(api: Api) -> list[Any]:
    found = api.collect(
        "/sagas", cursor=None, limit=CLOUD_ROWS, skipping=lambda _: None, status="COMPENSATED"
    )
    return list(found["items"])


def _memory() -> Figure:
    few, many = (apart(partial(_checked, count)) for count in (FEW, MANY))
    return Figure(
        what="memory of the process that checks a file",
        size=f"{MANY:,} rows",
        figure=f"{many:.0f} MB",
        alternative=f"{FEW:,} rows: {few:.0f} MB",
        ratio=many / few,
        most=1.25,
    )


def _checked(count: int) -> float:
    """MB that a process holds once it has checked a file of so many rows."""
    file = LOCAL / "bench" / f"{uuid.uuid4().hex}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as opened:
        opened.writelines(json.dumps(one) + "\n" for one in _requests(count))
    with _from_disk(file) as (s3, table):
        found = Checker(table, s3, "bucket", SAGAS, lambda *_: []).check("5a" * 16)
    file.unlink()
    assert found.rows == count, found
    return memory.own()


@contextmanager
def _from_disk(file: Path) -> Iterator[tuple[Any, Any]]:
    """S3 with one file, and the table of imports with one import of it."""
    about = {"key": "k", "version": "v", "sha256": "0" * 64, "format": "jsonl", "length": 1}
    found = Import(
        import_id="5a" * 16,
        owner="asha",
        saga=SAGA,
        object=file.name,
        file=about,
        body="",
        created_at="",
        updated_at="",
        expires_at=0,
    )

    def note(found: Import, **changes: Any) -> Import:
        return Import.from_row(found.row | changes | {"problems": []})

    with file.open("rb") as opened:
        body = SimpleNamespace(iter_chunks=lambda size: iter(partial(opened.read, size), b""))
        s3 = SimpleNamespace(get_object=lambda **_: {"Body": body}, put_object=lambda **_: None)
        yield s3, SimpleNamespace(get=lambda _: found, note=note)
