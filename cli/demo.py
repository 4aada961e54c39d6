"""`make demo`: trips booked and undone, and documents by valet key, on a cloud of one's own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from rich.console import Console

from cli import upload
from cli.api import Api, ApiError
from cli.arrivals import Arrivals, listening
from cli.download import receive
from cli.timeline import print_timeline
from local import LOCAL, ROOT
from local.cloud import EVERY_SCOPE, LocalCloud, LocalCloudError
from local.deploy import DeployError
from local.emulator import EmulatorError
from recourse.declare.declaration import Coordination
from recourse.events import Event

SAMPLES = ROOT / "samples"
THINGS = ("/flights/AI-202", "/hotels/taj-delhi", "/cars/del-compact")
PASSPORT = "passports/asha.pdf"
REVOKED = "redeem key-revoked"
ACCOUNTS = ("/accounts/acct-asha", "/accounts/acct-ravi")
out = Console(highlight=False)


class NotAsItShouldError(Exception):
    """The demonstration did not come out as it should."""


def main() -> int:
    """Run it; 0 only if all of it came out as it should."""
    out.print("[bold]Recourse[/bold]: trips on a cloud of your own. No Docker, no account.\n")
    try:
        with (
            LocalCloud(
                port=0, aws_port=0, state_dir=LOCAL / "demo", fresh=True, say=_progress
            ) as cloud,
            Api(cloud.api_url, cloud.token("asha", EVERY_SCOPE)) as api,
        ):
            out.print("\n[bold]A state machine coordinates[/bold] (orchestration)")
            book(api, "orchestration")
            undo(api, "orchestration")
            out.print(
                "\n[bold]Nobody coordinates[/bold] (choreography: each step hears the others)"
            )
            book(api, "choreography")
            undo(api, "choreography")
            out.print("\n[bold]Documents by valet key[/bold]: scoped, short-lived, revocable")
            lend(api, cloud.api_url)
            out.print("\n[bold]A trip that is told[/bold]: by push, and by pull from the same feed")
            tell(api, cloud.token("asha", EVERY_SCOPE))
    except (NotAsItShouldError, LocalCloudError, DeployError, EmulatorError) as problem:
        out.print(f"\n[bold red]It did not come out as it should:[/bold red] {problem}")
        return 1
    out.print(
        "\n[bold green]All as it should be.[/bold green] In either coordination one trip was\n"
        "booked: its holds became bookings and the money moved. The other was declined\n"
        "at its payment and undone: every count is what it was before. A passport went up\n"
        "and an invoice came down by valet keys, and one that was revoked opens nothing.\n"
        "What happened to a trip arrived by stream, WebSocket and webhook, and was read\n"
        "from the feed: the same events, in the same order.\n\n"
        "Next: `make up`, and look at README.md."
    )
    return 0


def book(api: Api, coordination: Coordination) -> None:
    """A trip that is booked."""
    out.print("\n  A trip that is booked (samples/travel-booking.json)")
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
        "the money did not move once",
    )
    out.print("          the holds are CONFIRMED, the account paid once")


def undo(api: Api, coordination: Coordination) -> None:
    """A trip whose payment is declined."""
    out.print("\n  A trip that is undone (samples/travel-booking-declined.json)")
    before = counts(api)
    saga = run(api, SAMPLES / "travel-booking-declined.json", coordination)
    expect(saga["status"] == "COMPENSATED", f"the trip ended {saga['status']}")
    expect(saga["reason"]["error"] == "PaymentDeclinedError", f"the reason is {saga['reason']}")
    expect(counts(api) == before, "not every count is what it was before")
    out.print("          every seat, room, car and rupee is where it was")


def lend(api: Api, url: str) -> None:
    """The life of a valet key: a document up, an invoice down, a key that is revoked."""
    with Api(url, None) as anybody, upload.client() as s3, TemporaryDirectory() as folder:
        out.print("\n  A passport goes up (samples/passport.pdf)")
        key = send(api, anybody, s3)
        trip = {"documents": {"passport": PASSPORT}, "trip_id": "t-passport"}
        out.print("\n  A trip is booked that names it")
        saga = run(api, SAMPLES / "travel-booking.json", "orchestration", trip)
        expect(saga["status"] == "SUCCEEDED", f"the trip ended {saga['status']}")

        out.print("\n  Its invoice comes down by the link of the saga, without a bearer")
        link = api.get(f"/sagas/{saga['saga_id']}")["links"]["invoice"]
        token, invoice = link.rpartition("/v/")[2], Path(folder) / "invoice.pdf"
        got = receive(anybody, s3, token, invoice, lambda _: None)
        expect(invoice.read_bytes().startswith(b"%PDF-"), "the invoice is no PDF")
        out.print(f"          {got.length} bytes of PDF, redeemed for a URL that lives 10 s")

        out.print("\n  The key is revoked, and opens nothing any more")
        keys = api.get("/valet-keys")["items"]
        (lent,) = [one for one in keys if one["object"] == f"invoices/{saga['saga_id']}.pdf"]
        api.call("DELETE", f"/valet-keys/{lent['key_id']}")
        try:
            anybody.call("POST", "/valet-keys/redeem", json={"token": token})
        except ApiError as refusal:
            expect(refusal.kind == "key-revoked", f"it was refused as {refusal.kind}")
            out.print(f"          {refusal}")
        else:
            raise NotAsItShouldError("a revoked key was redeemed")
        for key_id, story in (
            (key, ["issue allowed", "redeem allowed", "complete allowed"]),
            (lent["key_id"], ["issue allowed", "redeem allowed", "revoke allowed", REVOKED]),
        ):
            until(
                lambda key_id=key_id, story=story: trail(api, key_id) == story,  # type: ignore[misc]
                f"the audit of {key_id} is {trail(api, key_id)}",
            )
            out.print(f"          audited: {', '.join(story)}", soft_wrap=True)


def tell(api: Api, token: str) -> None:
    """A trip whose events arrive by push, while it happens, and by pull, when somebody asks."""
    latest = api.get("/events", limit=500)
    while len(latest["items"]) == 500:
        latest = api.get("/events", limit=500, after=latest["cursor"])
    with listening(api, token) as arrivals:
        saga = run(api, SAMPLES / "travel-booking.json", "orchestration", {"trip_id": "told"})
        pulled: list[Event] = []
        cursor = latest["cursor"]
        while not pulled or pulled[-1].kind != "succeeded":
            page = api.get("/events", after=cursor, wait=20)
            expect(bool(page["items"]), "the feed has not all that happened")
            pulled, cursor = [*pulled, *map(Event.from_dict, page["items"])], page["cursor"]
        expect(arrivals.wait(len(pulled), 30), f"{_counted(arrivals)} of {len(pulled)} arrived")
    out.print(f"\n          {'event':<12} {'  '.join(f'{name:>10}' for name in arrivals.heard)}")
    for number, event in enumerate(pulled):
        heard = [events[number] for events in arrivals.heard.values()]
        for _, one in heard:
            expect(one.id == event.id, f"{one.id} arrived in place of {event.id}")
        happened = datetime.fromisoformat(event.time).timestamp()
        late = "  ".join(f"{1000 * (moment - happened):>7.0f} ms" for moment, _ in heard)
        out.print(f"          {event.path:<12} {late}")
    expect(pulled[0].saga_id == saga["saga_id"], "the feed tells of another saga")
    out.print(
        f"          pulled: GET /events has the same {len(pulled)} in the same order, and a cursor"
    )


def _counted(arrivals: Arrivals) -> str:
    return ", ".join(f"{name}: {len(events)}" for name, events in arrivals.heard.items())


def send(api: Api, anybody: Api, s3: httpx.Client) -> str:
    """Send the passport by a key for it alone; the key's id."""
    source = upload.Source.read(SAMPLES / "passport.pdf", lambda _: None)
    what = {
        "content_type": "application/pdf",
        "content_length": source.length,
        "sha256": source.sha256,
    }
    asked = {"operation": "upload", "object": PASSPORT, "upload": what}
    key = api.call("POST", "/valet-keys", json=asked).json()
    upload.Upload(anybody, s3, source, key["token"], lambda _: None).whole()
    done = upload.complete(api, key["key_id"])
    expect(done["sha256"] == source.sha256, "what is visible is not what was sent")
    out.print(f"          {PASSPORT}: {source.length} bytes, checked by content, now visible")
    return str(key["key_id"])


def trail(api: Api, key_id: str) -> list[str]:
    """What was done with a key, in order."""
    audit = api.get(f"/valet-keys/{key_id}")["audit"]
    return [f"{row['action']} {row['outcome']}" for row in audit]


def run(
    api: Api, file: Path, coordination: Coordination, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Start a sample, with more in it, and print its timeline."""
    request = json.loads(file.read_text()) | dict(more or {})
    key = f"demo-{coordination}-{request['trip_id']}"
    started = api.start("travel-booking", request, key=key, coordination=coordination)
    expect(started["coordination"] == coordination, f"it is {started['coordination']}")
    return print_timeline(out, api.follow(started["saga_id"]))


def counts(api: Api) -> dict[str, Any]:
    """What the services themselves say."""
    return {path: api.get(path) for path in (*THINGS, *ACCOUNTS)}


def pairs(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Each counted thing before and now."""
    return [(before[path], now[path]) for path in THINGS]


def until(true: Callable[[], bool], otherwise: str, seconds: float = 20) -> None:
    """Wait for something that consumers bring about.

    Raises:
        NotAsItShouldError: It did not come.
    """
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise NotAsItShouldError(otherwise)
        time.sleep(0.1)


def expect(true: bool, otherwise: str) -> None:
    """Expect something to be so.

    Raises:
        NotAsItShouldError: It is not.
    """
    if not true:
        raise NotAsItShouldError(otherwise)


def _progress(line: str) -> None:
    out.print(f"  {line}", style="bright_black")


if __name__ == "__main__":
    sys.exit(main())
