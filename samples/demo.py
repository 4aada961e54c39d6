"""`make demo`: trips that succeed and that are undone, valet keys, and events, on a local cloud."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from rich.text import Text

from recourse.cli import upload
from recourse.cli.api import Api, ApiError
from recourse.cli.arrivals import Arrivals, listening
from recourse.cli.download import receive
from recourse.cli.screen import Screen
from recourse.cli.timeline import print_timeline
from recourse.declare.declaration import Coordination
from recourse.declare.money import Money
from recourse.events import Event
from recourse.local import LocalCloudError
from recourse.local.cloud import EVERY_SCOPE, LocalCloud
from samples import LOCAL, ROOT

SAMPLES = ROOT / "samples"
THINGS = ("/flights/AI-202", "/hotels/taj-delhi", "/cars/del-compact")
PASSPORT = "passports/asha.pdf"
REVOKED = "redeem key-revoked"
ACCOUNTS = ("/accounts/acct-asha", "/accounts/acct-ravi", "/accounts/acct-meera")
PASSED = """\
its holds became bookings, and the account was charged once. The payment of
another was declined, and all its effects were undone. Money went from one
account to another, and none was made or lost. A visit waited until its insurer
had decided. A passport was uploaded and an invoice downloaded by valet keys,
and a revoked key was refused. The events of a trip arrived by stream, WebSocket
and webhook, and were read from the feed: the same events, in the same order.

Next: `make up`, then follow README.md.
"""
out = Screen()


class DemoError(Exception):
    """A step of the demo had an unexpected result."""


def main() -> int:
    """Run the demo; 0 if every step had the expected result."""
    heading("Recourse", ": sagas on a local cloud. No Docker, no AWS account.")
    out.print()
    try:
        with (
            LocalCloud(
                port=0, aws_port=0, state_dir=LOCAL / "demo", fresh=True, say=_progress
            ) as cloud,
            Api(cloud.api_url, cloud.token("asha", EVERY_SCOPE)) as api,
        ):
            heading("Orchestration", ": a state machine coordinates the steps")
            book(api, "orchestration")
            undo(api, "orchestration")
            heading("Choreography", ": each step listens to the others' events")
            book(api, "choreography")
            undo(api, "choreography")
            heading("Banking", ": money from one account to another, whole or not at all")
            transfer(api)
            heading("Healthcare", ": a visit that waits until somebody has decided")
            with Api(cloud.api_url, cloud.token("acme", "insurer")) as insurer:
                visit(api, insurer)
            heading("Valet keys", ": scoped, short-lived, revocable access to documents")
            use_valet_keys(api, cloud.api_url)
            heading("Events", ": by push over three channels, and by pull from the feed")
            show_events(api, cloud.token("asha", EVERY_SCOPE))
    except (DemoError, ApiError, LocalCloudError) as problem:
        heading("The demo failed:", "", style="bold red")
        for line in str(problem).split("\n"):
            out.print(line)
        return 1
    heading("The demo passed.", " In each coordination one trip succeeded:", style="bold green")
    for line in PASSED.splitlines():
        out.print(line)
    return 0


def heading(title: str, said: str, *, style: str = "bold") -> None:
    """A title and what follows it, after an empty line."""
    out.print()
    out.print(Text.assemble((title, style), said))


def book(api: Api, coordination: Coordination) -> None:
    """A trip that succeeds."""
    out.print()
    out.print("  A trip that succeeds (samples/travel-booking.json)")
    before = counts(api)
    saga = run(api, SAMPLES / "travel-booking.json", coordination)
    expect(saga["status"] == "SUCCEEDED", f"the trip ended {saga['status']}")
    until(
        lambda: all(
            now["confirmed"] == was["confirmed"] + 1 and now["held"] == was["held"]
            for was, now in pairs(before, counts(api))
        ),
        "the holds did not become bookings",
    )
    paid = next(step for step in saga["steps"] if step["name"] == "capture")["result"]["amount"]
    account, now = before["/accounts/acct-asha"], counts(api)["/accounts/acct-asha"]
    expect(
        now["balance"] == account["balance"] - paid["amount"] and now["held"] == 0,
        "the account was not charged exactly once",
    )
    out.print("          the holds are CONFIRMED, the account was charged once")


def undo(api: Api, coordination: Coordination) -> None:
    """A trip whose payment is declined."""
    out.print()
    out.print("  A trip that is undone (samples/travel-booking-declined.json)")
    before = counts(api)
    saga = run(api, SAMPLES / "travel-booking-declined.json", coordination)
    expect(saga["status"] == "COMPENSATED", f"the trip ended {saga['status']}")
    expect(saga["reason"]["error"] == "PaymentDeclinedError", f"the reason is {saga['reason']}")
    expect(counts(api) == before, "not every effect was undone")
    out.print("          every seat, room, car and balance is as it was before")


def transfer(api: Api) -> None:
    """A transfer from one account to another."""
    out.print()
    out.print("  A transfer (samples/transfer.json)")
    before = counts(api)
    saga = run(api, SAMPLES / "transfer.json", "orchestration")
    expect(saga["status"] == "SUCCEEDED", f"the transfer ended {saga['status']}")
    now, settled = counts(api), next(s for s in saga["steps"] if s["name"] == "settle")["result"]
    moved = {path: now[path]["balance"] - before[path]["balance"] for path in ACCOUNTS}
    expect(
        moved[f"/accounts/{settled['to_account']}"] == settled["amount"]["amount"],
        "the account that is paid has not got the amount",
    )
    expect(sum(moved.values()) == 0, f"money was made or lost: {moved}")
    out.print("          one account has less, the other has more, by the same amount")


def visit(api: Api, insurer: Api) -> None:
    """A visit whose claim an insurer approves."""
    out.print()
    out.print("  A visit (samples/visit.json, on a policy whose insurer decides)")
    before = counts(api)["/accounts/acct-asha"]
    request = json.loads((SAMPLES / "visit.json").read_text()) | {"policy_id": "special-care"}
    saga_id = api.start("visit", request, key=str(uuid.uuid4()))["saga_id"]
    path = f"/claims/{saga_id}"

    def waits() -> bool:
        listed = insurer.get("/claims", status="open")["items"]
        return saga_id in {one["id"] for one in listed}

    until(waits, "the insurer is not asked")
    about = insurer.get(path)["about"]
    out.print(f"          acme is asked for {Money.of(about['covered']).shown()}, and approves")
    insurer.call("POST", f"{path}/decision", json={"decision": "approve"})
    saga = print_timeline(out, api.follow(saga_id))
    expect(saga["status"] == "SUCCEEDED", f"the visit ended {saga['status']}")
    left = Money.of(about["price"]) - Money.of(about["covered"])
    expect(
        counts(api)["/accounts/acct-asha"]["balance"] == before["balance"] - left.amount,
        "the account was not charged the rest",
    )
    out.print(f"          the account was charged the rest, {left.shown()}")


def use_valet_keys(api: Api, url: str) -> None:
    """Valet keys: an upload, a download, and a revoked key."""
    with Api(url, None) as anybody, upload.client() as s3, TemporaryDirectory() as folder:
        out.print()
        out.print("  Upload a passport (samples/passport.pdf)")
        key = send(api, anybody, s3)
        trip = {"documents": {"passport": PASSPORT}, "trip_id": "t-passport"}
        out.print()
        out.print("  Book a trip that names the passport")
        saga = run(api, SAMPLES / "travel-booking.json", "orchestration", trip)
        expect(saga["status"] == "SUCCEEDED", f"the trip ended {saga['status']}")

        out.print()
        out.print("  Download its invoice by the saga's link, without a bearer token")
        link = api.get(f"/sagas/{saga['saga_id']}")["links"]["invoice"]
        token, invoice = link.rpartition("/v/")[2], Path(folder) / "invoice.pdf"
        got = receive(anybody, s3, token, invoice, lambda _: None)
        expect(invoice.read_bytes().startswith(b"%PDF-"), "the invoice is not a PDF")
        out.print(f"          PDF of {got.length} bytes, from a URL that is valid for 10 s")

        out.print()
        out.print("  Revoke the key: it is refused from now on")
        keys = api.get("/valet-keys")["items"]
        (lent,) = [one for one in keys if one["object"] == f"invoices/{saga['saga_id']}.pdf"]
        api.call("DELETE", f"/valet-keys/{lent['key_id']}")
        try:
            anybody.call("POST", "/valet-keys/redeem", json={"token": token})
        except ApiError as refusal:
            expect(refusal.kind == "key-revoked", f"expected key-revoked, got {refusal.kind}")
            out.print(f"          {refusal}")
        else:
            raise DemoError("a revoked key was redeemed")
        for key_id, expected in (
            (key, ["issue allowed", "redeem allowed", "complete allowed"]),
            (lent["key_id"], ["issue allowed", "redeem allowed", "revoke allowed", REVOKED]),
        ):
            until(
                lambda key_id=key_id, expected=expected: trail(api, key_id) == expected,  # type: ignore[misc]
                f"the audit trail of {key_id} is {trail(api, key_id)}",
            )
            out.print(f"          audit trail: {', '.join(expected)}", soft_wrap=True)


def show_events(api: Api, token: str) -> None:
    """A trip whose events arrive by push while it runs, and by pull on request."""
    latest = api.get("/events", limit=500)
    while len(latest["items"]) == 500:
        latest = api.get("/events", limit=500, after=latest["cursor"])
    with listening(api, token) as arrivals:
        saga = run(api, SAMPLES / "travel-booking.json", "orchestration", {"trip_id": "t-events"})
        pulled: list[Event] = []
        cursor = latest["cursor"]
        while not pulled or pulled[-1].kind != "succeeded":
            page = api.get("/events", after=cursor, wait=20)
            expect(bool(page["items"]), "the feed lacks events of the trip")
            pulled, cursor = [*pulled, *map(Event.from_dict, page["items"])], page["cursor"]
        expect(
            arrivals.wait(len(pulled), 30), f"of {len(pulled)} events arrived {_counted(arrivals)}"
        )
    out.print()
    out.print(f"          {'event':<12} {'  '.join(f'{name:>10}' for name in arrivals.received)}")
    for number, event in enumerate(pulled):
        arrived = [events[number] for events in arrivals.received.values()]
        for _, one in arrived:
            expect(one.id == event.id, f"expected event {event.id}, got {one.id}")
        happened = datetime.fromisoformat(event.time).timestamp()
        late = "  ".join(f"{1000 * (moment - happened):>7.0f} ms" for moment, _ in arrived)
        out.print(f"          {event.path:<12} {late}")
    expect(pulled[0].saga_id == saga["saga_id"], "the feed begins with another saga")
    out.print(f"          GET /events returns the same {len(pulled)} events in the same order")


def _counted(arrivals: Arrivals) -> str:
    return ", ".join(f"{name}: {len(events)}" for name, events in arrivals.received.items())


def send(api: Api, anybody: Api, s3: httpx.Client) -> str:
    """Upload the passport by a key for it alone; the key's id."""
    source = upload.Source.read(SAMPLES / "passport.pdf", lambda _: None)
    what = {
        "content_type": "application/pdf",
        "content_length": source.length,
        "sha256": source.sha256,
    }
    asked = {"operation": "upload", "object": PASSPORT, "upload": what}
    key = api.ask("POST", "/valet-keys", json=asked)
    upload.Upload(anybody, s3, source, key["token"], lambda _: None).whole()
    done = upload.complete(api, key["key_id"])
    expect(
        done["sha256"] == source.sha256, "the stored document differs from the one that was sent"
    )
    out.print(f"          {PASSPORT}: {source.length} bytes, content verified, now visible")
    return str(key["key_id"])


def trail(api: Api, key_id: str) -> list[str]:
    """The audit trail of a key, oldest first."""
    audit = api.get(f"/valet-keys/{key_id}")["audit"]
    return [f"{row['action']} {row['outcome']}" for row in reversed(audit)]


def run(
    api: Api, file: Path, coordination: Coordination, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Start a sample, with fields changed or added, and print its timeline."""
    request = json.loads(file.read_text()) | dict(more or {})
    saga, key = file.stem.removesuffix("-declined"), str(uuid.uuid4())
    started = api.start(saga, request, key=key, coordination=coordination)
    expect(
        started["coordination"] == coordination,
        f"expected {coordination}, got {started['coordination']}",
    )
    return print_timeline(out, api.follow(started["saga_id"]))


def counts(api: Api) -> dict[str, Any]:
    """What the services hold now."""
    return {path: api.get(path) for path in (*THINGS, *ACCOUNTS)}


def pairs(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Each holding before and now."""
    return [(before[path], now[path]) for path in THINGS]


def until(true: Callable[[], bool], otherwise: str, seconds: float = 20) -> None:
    """Wait for an effect of a consumer.

    Raises:
        DemoError: It did not happen in time.
    """
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise DemoError(otherwise)
        time.sleep(0.1)


def expect(true: bool, otherwise: str) -> None:
    """Check an expectation.

    Raises:
        DemoError: It is not met.
    """
    if not true:
        raise DemoError(otherwise)


def _progress(line: str) -> None:
    out.print(f"  {line}", style="bright_black")


if __name__ == "__main__":
    sys.exit(main())
