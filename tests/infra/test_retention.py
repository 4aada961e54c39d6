"""How long each kind is kept is a context, and the page says of each where, how long, and why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recourse.store import retention
from tests.infra.assembly import Assembly
from tests.infra.test_stage import stage

pytestmark = pytest.mark.xdist_group("infra")

PAGE = (Path(__file__).parents[2] / "docs/retention.md").read_text()
ROW = re.compile(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
ROWS = [found.groups() for found in ROW.finditer(PAGE)][2:]
"""The table's rows: what, where, how long, by which context, why."""
BY_PREFIX = {
    *("marker#", "outbox#", "inbox#", "feed#", "saga#", "webhook#", "owner#", "lane#", "log#"),
    *("replay#", "key#", "audit#", "refused#", "object#", "rate#", "slots#", "erasure#", "lease#"),
    "unreached#",
}


@pytest.mark.parametrize("kind", retention.KINDS)
def test_the_page_has_every_kind_with_its_default(kind: str) -> None:
    rows = [row for row in ROWS if f"`retain_{kind}`" in row[3]]
    assert rows, f"docs/retention.md has no row for retain_{kind}"
    days = retention.KINDS[kind].days
    said = "for good" if days is None else f"{days} days"
    for what, _, long, _, why in rows:
        assert said in long, (what, long)
        assert why


def test_the_page_has_every_kind_of_row_and_every_place(dev: Assembly) -> None:
    for prefix in BY_PREFIX:
        assert any(f"`{prefix}" in row[0] for row in ROWS), prefix
    where = " ".join(row[1] for row in ROWS)
    for prefix in ("objects/", "incoming/", "quarantine/"):
        assert f"`{prefix}" in where
    for bucket in dev.every("AWS::S3::Bucket"):
        for rule in bucket.properties.get("LifecycleConfiguration", {}).get("Rules", []):
            if "ExpirationInDays" in rule:
                (row,) = [row for row in ROWS if f"`{rule['Prefix']}" in row[1]]
                assert f"{rule['ExpirationInDays']} days" in row[2], row


def test_a_context_sets_each_and_what_would_break_a_promise_is_refused() -> None:
    from recourse.cdk.stage import ContextError

    assert stage().retention == {} and stage().retained == {}
    found = stage(retain_feed="90", retain_events="20", retain_uploads="400", retain_logs="30")
    assert found.retention == {
        "RETAIN_FEED": "90",
        "RETAIN_EVENTS": "20",
        "RETAIN_UPLOADS": "400",
    }
    assert (found.kept("uploads"), stage().kept("uploads")) != (None, None)
    assert stage().kept("uploads") is None
    for kind, kept in retention.KINDS.items():
        for wrong in (str(kept.least - 1), "x", "-1", str(retention.MOST + 1), "²"):
            with pytest.raises(ContextError, match=f"retain_{kind} must be {kept.least} to"):
                stage(**{f"retain_{kind}": wrong})
    with pytest.raises(ContextError, match="retain_logs='2' must be one of 1, 7, 14"):
        stage(retain_logs="2")


def test_rows_are_written_by_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from recourse.events import expiry

    assert abs(expiry() - time.time() - 14 * retention.DAY) < 60
    monkeypatch.setenv("RETAIN_EVENTS", "30")
    assert abs(expiry() - time.time() - 30 * retention.DAY) < 60
    assert retention.seconds("trail") is None
    monkeypatch.setenv("RETAIN_TRAIL", "7")
    assert retention.seconds("trail") == 7 * retention.DAY
